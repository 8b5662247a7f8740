"""Multi-process training: initialisation, barriers, and agreement between processes.

There is one process per host of a TPU slice, or per GPU machine. In a run of one process all of
these functions return immediately.
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
    "expected auto (a TPU slice, SLURM, Open MPI), or ADDRESS:PORT,COUNT,INDEX: the address of the"
    " first process, the number of processes, and the index of this one from 0, such as"
    " 10.0.0.1:8476,2,0"
)


def initialize(how: str) -> None:
    """Connects to the other processes; call before any other use of JAX.

    Args:
      how: the flag --distributed: "" for a run of one process, "auto" for Cloud TPU, SLURM or Open
        MPI, or "ADDRESS:PORT,COUNT,INDEX".

    Raises:
      InputError: if `how` is none of these, or "auto" finds no such environment.
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
    match = re.fullmatch(r"([^,]+:\d+),(\d+),(\d+)", how)
    if not match or int(match[3]) >= int(match[2]):
        raise InputError(f"--distributed={how}: {EXPECTED}")
    jax.distributed.initialize(match[1], num_processes=int(match[2]), process_id=int(match[3]))


def place() -> tuple[int, int]:
    """The index of this process, and the number of processes."""
    return jax.process_index(), jax.process_count()


def is_first() -> bool:
    """Whether this process is the one that logs."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Waits for all processes; `name` must be the same in all of them."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def gather(array: np.ndarray) -> np.ndarray:
    """Stacks the arrays of all processes: `[...]` -> `[processes, ...]`."""
    if jax.process_count() == 1:
        return np.asarray(array)[None]
    return np.asarray(multihost_utils.process_allgather(np.asarray(array)))


def all_agree(condition: bool) -> bool:
    """Whether the condition holds in every process."""
    return bool(gather(np.array([condition])).all())


def all_equal(array: np.ndarray) -> bool:
    """Whether the array is the same in every process."""
    arrays = gather(array)
    return bool((arrays == arrays[0]).all())


def check_same_config(config: dict[str, Any]) -> None:
    """Checks that all processes have the same config, except for where and how data is read.

    Otherwise each would train another network, or wait forever for a step that others do not take.

    Raises:
      InputError: if they differ.
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
