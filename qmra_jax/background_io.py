"""Reads ahead and writes behind, each in one background thread."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
_END: Any = object()


def read_ahead(items: Iterable[T], most: int = 2) -> Generator[T, None, None]:
    """Yields the items in order, each made in a background thread before it is needed.

    An error raised while making an item is raised in its place.

    Args:
      items: slow to make, such as decoded frames.
      most: how many are made ahead.
    """
    iterator, pool = iter(items), ThreadPoolExecutor(1, thread_name_prefix="read ahead")
    ready = deque(pool.submit(next, iterator, _END) for _ in range(most))
    try:
        while (item := ready.popleft().result()) is not _END:
            ready.append(pool.submit(next, iterator, _END))
            yield item
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class WriteBehind:
    """Calls functions in order in a background thread; leaving the `with` block waits for all.

    An error of a call is raised by a later call or at the end of the block.
    """

    def __init__(self, most: int = 8):
        """Allows `most` calls to wait; then the caller waits too, which bounds the memory used."""
        self._most = most
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="write behind")
        self._waiting: deque[Future] = deque()

    def __call__(self, function: Callable, *args: Any) -> None:
        """Queues `function(*args)`."""
        while self._waiting and (len(self._waiting) >= self._most or self._waiting[0].done()):
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(function, *args))

    def __enter__(self) -> "WriteBehind":
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._pool.shutdown(wait=True, cancel_futures=error is not None)
        while error is None and self._waiting:
            self._waiting.popleft().result()
