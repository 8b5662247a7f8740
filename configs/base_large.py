"""The default weights, part 2: continues `configs/base.py` with crops of 384x384.

    python train.py --config=configs/base_large.py --workdir=runs/base_large \\
      --config.init.features=dinov2_vits14.safetensors

Larger crops are closer to the frames at inference.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """Training that starts from the result of `configs/base.py`."""
    config = base.get_config()
    config.init_from = "runs/base"
    config.init.encoders = ""
    config.data.crop = 384
    config.data.scale = (0.6, 1.6)
    config.data.max_gap = ((0, 20),)
    config.data.video_share = ((0, 0.5),)
    config.predicted_share = ((0, 0.5),)
    config.batch_size = 32
    config.steps = 4000
    config.optimizer.learning_rate = 3e-4
    config.optimizer.schedule = "linear_tail"
    config.optimizer.decay_share = 0.6
    config.optimizer.warmup_steps = 100
    return config
