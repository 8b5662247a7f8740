"""How many programs JAX has compiled for a thread, those that it found in its cache on disk too."""

import threading

import jax

_EVENT = "/jax/core/compile/backend_compile_duration"
_counts = threading.local()  # a thread compiles what it calls; others may compile meanwhile


def compiled_programs() -> int:
    """Programs that were compiled so far because the calling thread needed them.

    A call before which and after which this is the same has met nothing new: its time is the
    program's own.
    """
    return getattr(_counts, "programs", 0)


def _count(event: str, duration_secs: float, **_: str | int) -> None:
    if event == _EVENT:
        _counts.programs = compiled_programs() + 1


jax.monitoring.register_event_duration_secs_listener(_count)
