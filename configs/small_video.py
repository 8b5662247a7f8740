"""The small model, part 2: continues `configs/small.py` under conditions closer to inference.

    python train.py --config=configs/small_video.py --workdir=runs/small_video

Half of the memory maps are predicted, frames are further apart and vary more in scale, and the
weights are averaged.
"""

from ml_collections import ConfigDict

from configs import small


def get_config() -> ConfigDict:
    """Training that starts from the result of `configs/small.py`."""
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
    config.keep_best = 2  # steps 1,000 and 2,000, used for the shipped weights
    config.optimizer.learning_rate = 1.5e-4
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_steps = 200
    config.optimizer.decay_norm_and_bias = False
    config.eval.every = 1000
    config.eval.short_side = 240
    return config
