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


def test_no_more_is_made_than_may_wait():
    made, reader = [], None

    def items():
        for i in range(100):
            made.append(i)
            yield i

    reader = read_ahead(items(), most=2)
    assert next(reader) == 0
    threading.Event().wait(0.3)
    assert len(made) <= 4  # one taken, two waiting, one at the door
    reader.close()
    threading.Event().wait(0.3)
    assert len(made) <= 4


def test_an_error_comes_after_the_items_before_it():
    def items():
        yield 1
        raise ValueError("torn")

    reader = read_ahead(items())
    assert next(reader) == 1
    with pytest.raises(ValueError, match="torn"):
        next(reader)


def test_writing_keeps_the_order_and_is_done_at_the_end():
    written = []
    with WriteBehind(most=3) as write:
        for i in range(20):
            write(written.append, i)
    assert written == list(range(20))


def test_a_failed_write_is_told():
    def fail():
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), WriteBehind() as write:
        write(fail)


def test_an_error_of_the_block_comes_before_a_failed_write():
    def block():
        with WriteBehind() as write:
            write([].pop)
            raise KeyError

    with pytest.raises(KeyError):
        block()
