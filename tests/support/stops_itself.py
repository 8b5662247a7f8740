"""`train.py` that sends itself a signal. Arguments: SIGNAL AT_BATCH, then those of train.py.

It trains `Miniature`, which compiles in no time, instead of the config's network.
"""

import os
import sys

import train
from qmra_jax import errors
from tests.support.invariance import Miniature

number, at = int(sys.argv[1]), int(sys.argv[2])
del sys.argv[1:3]


def open_stream(*args, whole=train.open_stream, **options):
    for count, batch in enumerate(whole(*args, **options)):
        if count == at:
            os.kill(os.getpid(), number)
        yield batch


train.build_model = lambda config: Miniature(config.batch_norm, config.dtype)
train.open_stream = open_stream
errors.run_app(train.main)
