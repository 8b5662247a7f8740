"""Items are read ahead and writes are done behind, in order and with their errors."""

import threading

import pytest

from qmra_jax.background_io import WriteBehind, read_ahead


def test_items_come_in_order_and_are_made_in_another_thread():
    made_in = set()

    def items():
        for i in range(50):
            made_in.add(threading.current_thread())
            yield i

    assert list(read_ahead(items())) == list(range(50))
    assert threading.current_thread() not in made_in


def test_reading_ahead_is_bounded():
    made, reader = [], None

    def items():
        for i in range(100):
            made.append(i)
            yield i

    reader = read_ahead(items(), most=2)
    assert next(reader) == 0
    threading.Event().wait(0.3)
    assert len(made) <= 4  # one taken, at most three ahead
    reader.close()
    threading.Event().wait(0.3)
    assert len(made) <= 4


def test_an_error_follows_the_items_before_it():
    def items():
        yield 1
        raise ValueError("torn")

    reader = read_ahead(items())
    assert next(reader) == 1
    with pytest.raises(ValueError, match="torn"):
        next(reader)


def test_writes_are_in_order_and_done_at_the_end():
    written = []
    with WriteBehind(most=3) as write:
        for i in range(20):
            write(written.append, i)
    assert written == list(range(20))


def test_a_failed_write_is_raised_unless_the_block_raises():
    with pytest.raises(IndexError), WriteBehind() as write:
        write([].pop)
    with pytest.raises(KeyError), WriteBehind() as write:  # noqa: PT012
        write([].pop)
        raise KeyError
