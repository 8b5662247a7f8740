"""A training config small enough for a test; the caller sets `data.root`."""

from configs import common
from tests.support.tiny import TINY

STEPS = 10


def get_config():
    config = common.get_config()
    config.model.update(TINY)
    config.data.static = ()
    config.data.videos = (".:train",)
    config.data.video_share = ((0, 1.0),)
    config.data.crop = 32
    config.data.workers = 1
    config.batch_size = 4
    config.steps = STEPS
    config.optimizer.learning_rate = 1e-3
    config.ema_decay = 0.5
    config.log_every = 1
    config.checkpoint_every = 4
    config.picture_every = STEPS
    return config
