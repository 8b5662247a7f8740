"""The whole of training in a minute, on any machine: a tiny network on synthetic videos.

python train.py --config=configs/smoke.py --workdir=runs/smoke
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    """ResNet-18 with narrow heads, from random weights; it needs no download at all."""
    config = common.get_config()
    config.model.backbone = "resnet18"
    config.model.key_dim = 32
    config.model.value_dim = 64
    config.model.decoder_dim = 32

    config.data.videos = ("synthetic",)
    config.data.video_share = ((0, 1.0),)
    config.data.max_gap = ((0, 5),)
    config.data.crop = 96
    config.data.rotation = 10.0
    config.data.scale = (1.0, 1.5)

    config.batch_size = 8
    config.cpu_devices = 2
    config.steps = 150
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 10
    config.optimizer.clip_norm = 5.0

    config.log_every = 10
    config.picture_every = 150
    config.checkpoint_every = 150
    return config
