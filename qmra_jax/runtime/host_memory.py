"""How this process gets its memory from the system."""

import ctypes
import importlib.metadata
import importlib.util
import os
import platform

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Lets glibc keep large blocks that were freed, for the next step to use again.

    XLA's CPU backend allocates a step's temporaries anew in every step. By default each such block,
    gigabytes in training, is mapped, zeroed page by page and given back: an eighth of a small
    model's training step on a CPU. Kept in one heap, a block is there for the next step. The
    process then holds on to the most memory that it ever used.

    To be called before JAX starts its threads: later it changes nothing, for they have heaps of
    their own by then. Does nothing but on Linux with glibc, and only where JAX computes on the CPU:
    all threads then share one heap, which would gain an accelerator's host nothing.

    Returns:
      whether it took effect.
    """
    if platform.libc_ver()[0] != "glibc" or not _cpu_alone():
        return False
    libc = ctypes.CDLL(None)
    settings = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1))
    return all(libc.mallopt(name, value) == 1 for name, value in settings)


def _cpu_alone() -> bool:
    """Whether JAX has nothing but the CPU, as far as can be told before it starts."""
    if chosen := os.environ.get("JAX_PLATFORMS"):
        return chosen == "cpu"
    accelerators = importlib.metadata.entry_points(group="jax_plugins")
    return not accelerators and importlib.util.find_spec("libtpu") is None
