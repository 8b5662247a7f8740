"""Count of the programs JAX has compiled, including those loaded from its cache on disk."""

import threading

import jax

_EVENT = "/jax/core/compile/backend_compile_duration"
_counts = threading.local()  # JAX compiles in the calling thread; other threads may compile too


def compiled_programs() -> int:
    """The number of programs compiled so far for the calling thread.

    A call that leaves it unchanged compiled nothing: its duration is the run time alone.
    """
    return getattr(_counts, "programs", 0)


def _count(event: str, duration_secs: float, **_: str | int) -> None:
    if event == _EVENT:
        _counts.programs = compiled_programs() + 1


jax.monitoring.register_event_duration_secs_listener(_count)
