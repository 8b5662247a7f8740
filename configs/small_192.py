"""The small model on all data, part 2: crops of 192x192.

python train.py --config=configs/small_192.py --workdir=runs/small_192
"""

from ml_collections import ConfigDict

from configs import small_128


def get_config() -> ConfigDict:
    """Training that starts from the result of `configs/small_128.py`."""
    config = small_128.get_config()
    config.init_from = "runs/small_128"
    config.data.crop = 192
    config.data.video_share = ((0, 0.5),)
    config.data.max_gap = ((0, 20),)
    config.predicted_share = ((0, 0.5),)
    config.batch_size = 8
    return config
