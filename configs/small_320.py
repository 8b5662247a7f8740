"""The small model on all data, part 3: crops of 320x320, half a frame or more.

python train.py --config=configs/small_320.py --workdir=runs/small_320
"""

from ml_collections import ConfigDict

from configs import small_192


def get_config() -> ConfigDict:
    """Training that starts from the result of `configs/small_192.py`."""
    config = small_192.get_config()
    config.init_from = "runs/small_192"
    config.data.crop = 320
    config.data.scale = (0.6, 1.6)
    config.batch_size = 4
    config.optimizer.learning_rate = 1e-4
    config.optimizer.schedule = "linear_tail"
    config.optimizer.decay_share = 0.5
    return config
