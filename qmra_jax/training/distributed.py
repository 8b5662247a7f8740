"""Several processes that train as one: how they find each other, and what they agree on.

A process is what runs on one host of a TPU slice, or on one machine with GPUs. A run of one process
needs none of this: every function here then answers at once.
"""

import hashlib
import json
import re
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from qmra_jax.errors import InputError

EXPECTED = (
    "expected auto (a TPU slice, SLURM, Open MPI), or ADDRESS:PORT,COUNT,INDEX: of the first"
    " process, how many there are, and which this is, from 0, such as 10.0.0.1:8476,2,0"
)


def initialize(how: str) -> None:
    """Joins the other processes. Must come before anything else of JAX.

    Args:
      how: "" for a run of one process, "auto" where the surroundings tell (Cloud TPU, SLURM, Open
        MPI), or "ADDRESS:PORT,COUNT,INDEX".

    Raises:
      InputError: if `how` is none of these, or the surroundings do not tell.
    """
    if not how:
        return
    jax.config.update("jax_enable_preemption_service", False)  # see `preemption.StopRequest`
    if how == "auto":
        try:
            jax.distributed.initialize()
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"--distributed=auto: {reason}; {EXPECTED}") from None
        return
    address, count, index = _parse(how)
    jax.distributed.initialize(address, num_processes=count, process_id=index)


def _parse(how: str) -> tuple[str, int, int]:
    match = re.fullmatch(r"([^,]+:\d+),(\d+),(\d+)", how)
    if not match or int(match[3]) >= int(match[2]):
        raise InputError(f"--distributed={how}: {EXPECTED}")
    return match[1], int(match[2]), int(match[3])


def place() -> tuple[int, int]:
    """Which process this is, from 0, and how many there are."""
    return jax.process_index(), jax.process_count()


def is_first() -> bool:
    """Whether this is the process that writes logs."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Waits until every process is here.

    Args:
      name: of the place, the same in all.
    """
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def gather(array: np.ndarray) -> np.ndarray:
    """Every process's array, of one shape in all: `[...]` -> `[processes, ...]`."""
    if jax.process_count() == 1:
        return np.asarray(array)[None]
    return np.asarray(multihost_utils.process_allgather(np.asarray(array)))


def all_agree(yes: bool) -> bool:
    """Whether every process says yes."""
    return bool(gather(np.array([yes])).all())


def all_equal(array: np.ndarray) -> bool:
    """Whether every process has the same array."""
    everyone = gather(array)
    return bool((everyone == everyone[0]).all())


def check_same_config(config: dict[str, Any]) -> None:
    """Finds out whether every process was started with the same config.

    With others, each would train a network of its own, or wait for ever for a step that another
    does not make. Where the data lies and how it is read may differ.

    Raises:
      InputError: if not.
    """
    free = ("root", "loader", "workers", "prefetch")
    data = {name: value for name, value in config["data"].items() if name not in free}
    text = json.dumps(config | {"data": data}, sort_keys=True)
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
    if not all_equal(digest):
        raise InputError(
            "the processes have different configs: start all of them from the same files with the"
            " same --config options"
        )
