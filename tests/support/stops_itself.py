"""`train.py`, but it sends itself a signal: SIGNAL AT_BATCH NETWORK, then train.py's own arguments.

NETWORK is real, or miniature: one that compiles in no time, in place of the config's.
"""

import os
import sys

import train
from qmra_jax import errors
from tests.support.invariance import Miniature

number, at, network = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
del sys.argv[1:4]


def open_stream(*args, whole=train.open_stream, **options):
    for count, batch in enumerate(whole(*args, **options)):
        if count == at:
            os.kill(os.getpid(), number)
        yield batch


if network == "miniature":
    train.build_model = lambda config: Miniature(config.batch_norm, config.dtype)
train.open_stream = open_stream
errors.run_app(train.main)
