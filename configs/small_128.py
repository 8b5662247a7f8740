"""The small model on all data, part 1: crops of 128x128, for many triplets per hour.

    python train.py --config=configs/small_128.py --workdir=runs/small_128 \\
      --config.init.encoders=$QMRA_DATA/resnet18/resnet18_imagenet_folded.npz

The keys start as a PCA projection (`init.key_projection`). The videos of `configs/selection.py` are
held out. `configs/small_192.py` and `configs/small_320.py` continue it.
"""

from ml_collections import ConfigDict

from configs import base, small


def get_config() -> ConfigDict:
    """The network of `configs/small.py`, with the recipe of `configs/base.py` on smaller crops."""
    config = base.get_config()
    config.model = small.get_config().model
    config.data.crop = 128
    config.data.video_share = ((0, 0.35), (2500, 0.5))
    config.data.max_gap = ((0, 5), (1500, 10), (3000, 15))

    config.cpu_devices = 2
    config.batch_size = 16
    config.steps = 4000
    config.optimizer.learning_rate = 3e-4
    config.checkpoint_every = 100
    config.picture_every = 1000
    config.log_every = 20
    return config
