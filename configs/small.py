"""QMRA with ResNet-18 (7,867,430 parameters), trained on one CPU.

    python train.py --config=configs/small.py --workdir=runs/small \\
      --config.init.encoders=$QMRA_DATA/resnet18/resnet18_imagenet_folded.npz

Data, in $QMRA_DATA: static images with masks, then mostly DAVIS 2016's training videos. Time: 92
minutes on two cores. Score: J 0.680, F 0.727 on five held-out sequences at a short side of 240.
"""

from ml_collections import ConfigDict

from configs import common

STATIC = ("ecssd", "sod300", "ccp", "horses", "human290", "pets600", "pets100", "feral_cats")


def get_config() -> ConfigDict:
    """The small model and its training."""
    config = common.get_config()
    config.model.backbone = "resnet18"
    config.model.key_dim = 64
    config.model.value_dim = 128
    config.model.decoder_dim = 64

    config.data.static = tuple(f"static/{name}" for name in STATIC)
    config.data.videos = ("davis2016:train",)
    config.data.video_share = ((0, 0.2), (900, 0.6))
    config.data.crop = 192
    config.data.colour_jitter = 0.2

    config.batch_size = 8
    config.cpu_devices = 2
    config.steps = 1800
    config.checkpoint_every = 200
    config.optimizer.learning_rate = 2e-4
    config.optimizer.encoder_scale = 0.15
    config.optimizer.schedule = "linear_tail"
    config.optimizer.warmup_steps = 100
    config.optimizer.weight_decay = 1e-4
    config.optimizer.decay_norm_and_bias = True  # as for the shipped weights
    config.optimizer.clip_norm = 5.0
    return config
