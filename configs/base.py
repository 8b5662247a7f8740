"""The default weights, part 1: QMRA with ResNet-18 and frozen features of DINOv2.

    python train.py --config=configs/base.py --workdir=runs/base \\
      --config.init.encoders=$QMRA_DATA/resnet18/resnet18_imagenet_folded.npz \\
      --config.init.features=dinov2_vits14.safetensors

Small crops, for many triplets per hour; `configs/base_large.py` continues with larger ones. The
videos of `configs/selection.py` are held out.
"""

from ml_collections import ConfigDict

from configs import small
from configs.selection import HELD_OUT

STATIC = (
    *small.STATIC,
    "endangered_animals",
    "bsds500_test@0.5",
    "imagenet1000_pseudo@2",
    "caltech101_pseudo",
    "car_pseudo",
    "rabbit_pseudo",
)
VIDEOS = (
    "davis2016:train@2",
    "davis2016:val@2",
    "web_clips_pseudo:train:2017",
    "cdnet_highway:train:2017@0.5",
    "pumavos_chair:train:2017",
)


def get_config() -> ConfigDict:
    """Training on crops of 192x192."""
    config = small.get_config()
    config.model.features = "dinov2_vits14"
    config.model.key_dim = 128
    config.model.value_dim = 256
    config.model.dtype = "bfloat16"
    config.init.key_projection = "pca"

    config.data.static = tuple(f"static/{name}" for name in STATIC)
    config.data.videos = VIDEOS
    config.data.held_out = HELD_OUT
    config.data.loader = "processes"
    config.data.video_share = ((0, 0.35), (2000, 0.5))
    config.data.max_gap = ((0, 5), (1000, 10), (2000, 20))
    config.data.scale = (0.75, 2.2)
    config.data.shear = 10.0
    config.data.colour_jitter = 0.3
    config.data.distractors = 0.4
    config.data.lookalikes = 0.5
    config.data.negatives = 0.03

    config.cpu_devices = 0
    config.batch_size = 64
    config.steps = 3300
    config.memory_maps = "mixed"
    config.predicted_share = ((0, 0.0), (500, 0.5))
    config.ema_decay = 0.999
    config.optimizer.learning_rate = 4e-4
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_steps = 200
    config.optimizer.decay_norm_and_bias = False
    config.checkpoint_every = 1000
    config.picture_every = 100_000
    config.log_every = 50
    return config
