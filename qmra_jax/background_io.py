"""Reading and writing beside the network's work, in one thread each."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
_END = object()


def read_ahead(items: Iterable[T], most: int = 2) -> Generator[T, None, None]:
    """The items, each made in a thread before it is asked for.

    Args:
      items: whatever is slow to make, such as frames to decode.
      most: how many may wait to be taken.

    Yields:
      them, in order. Closing the generator ends the thread.

    Raises:
      whatever making an item raises, when that item is asked for.
    """
    ready: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(most)
    given_up = threading.Event()

    def put(item: Any, error: BaseException | None = None) -> bool:
        while not given_up.is_set():
            try:
                ready.put((item, error), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not put(item):
                    return
            put(_END)
        except BaseException as error:
            put(_END, error)

    threading.Thread(target=make, daemon=True, name="read ahead").start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        given_up.set()


class WriteBehind:
    """Calls functions in order in a thread; `with` waits for them all.

    An error of a call is raised by a later call or at the end of the block.
    """

    def __init__(self, most: int = 8):
        """Lets at most `most` calls wait; a further one waits itself, so that memory is bounded."""
        self._most = most
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="write behind")
        self._waiting: deque[Future] = deque()

    def __call__(self, function: Callable, *args: Any) -> None:
        """Calls `function(*args)` soon."""
        while self._waiting and (len(self._waiting) >= self._most or self._waiting[0].done()):
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(function, *args))

    def __enter__(self) -> "WriteBehind":
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._pool.shutdown(wait=True, cancel_futures=error is not None)
        while error is None and self._waiting:
            self._waiting.popleft().result()
