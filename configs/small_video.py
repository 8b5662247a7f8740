"""The small model's second part: goes on from `configs/small.py` with what inference meets.

    python train.py --config=configs/small_video.py --workdir=runs/small_video

The memory carries predicted boxes half of the time, frames are further apart and come in more
sizes, and an average of the weights is what is kept.
"""

from ml_collections import ConfigDict

from configs import small


def get_config() -> ConfigDict:
    """The recipe's second part, from `configs/small.py`'s result."""
    config = small.get_config()
    config.init_from = "weights/qmra-small-pretrained.safetensors"
    config.memory_maps = "mixed"
    config.ema_decay = 0.999
    config.data.video_share = ((0, 0.6),)
    config.data.max_gap = ((0, 8), (600, 15), (1500, 25))
    config.data.scale = (0.75, 2.5)
    config.data.shear = 10.0
    config.data.distractors = 0.4
    config.steps = 2000
    config.checkpoint_every = 100
    config.keep_best = 2  # that is step 1,000 and step 2,000, which the shipped weights are made of
    config.optimizer.learning_rate = 1.5e-4
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_steps = 200
    config.optimizer.decay_norm_and_bias = False
    config.eval.every = 1000
    config.eval.short_side = 240
    return config
