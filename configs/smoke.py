"""A complete training run in a minute, on any machine: small network, generated videos.

    python train.py --config=configs/smoke.py --workdir=runs/smoke

It overfits four synthetic videos from random weights. 150 steps take 115 seconds of processor time
including compilation: a minute on two idle cores. The loss falls from 0.8 (mean of the first three
logged steps) to 0.5 (last three); J of the refined mask rises from 0 to 0.41 (last five).
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    """ResNet-18 with narrow heads; nothing to download."""
    config = common.get_config()
    config.model.backbone = "resnet18"
    config.model.key_dim = 32
    config.model.value_dim = 64
    config.model.decoder_dim = 32

    config.data.videos = ("synthetic:tiny",)
    config.data.video_share = ((0, 1.0),)
    config.data.max_gap = ((0, 5),)
    config.data.crop = 64
    config.data.rotation = 0.0
    config.data.scale = (1.8, 2.5)

    config.batch_size = 4
    config.cpu_devices = 2
    config.steps = 150
    config.optimizer.learning_rate = 5e-4
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 10
    config.optimizer.clip_norm = 1.0

    config.log_every = 10
    config.picture_every = 150
    config.checkpoint_every = 150
    return config
