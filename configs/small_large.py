"""The small model, part 3: continues `configs/small_video.py` with larger crops.

    python train.py --config=configs/small_large.py --workdir=runs/small_large

Most crops hold half a frame or more (frames of 210 to 540 pixels on the shorter side), which is
closer to inference. `weights/qmra-small.safetensors` is the mean of four checkpoints of parts 2 and
3; docs/training.md has the whole recipe.
"""

from ml_collections import ConfigDict

from configs import small_video


def get_config() -> ConfigDict:
    """Training that starts from the result of `configs/small_video.py`."""
    config = small_video.get_config()
    config.init_from = "runs/small_video"
    config.data.crop = 384
    config.data.scale = (0.55, 1.4)
    config.data.max_gap = ((0, 15),)
    config.batch_size = 2
    config.steps = 2000
    config.optimizer.learning_rate = 1e-4
    config.optimizer.schedule = "linear_tail"
    config.optimizer.decay_share = 0.5
    config.eval.short_side = 324
    return config
