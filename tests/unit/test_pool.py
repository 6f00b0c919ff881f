"""Work on threads: in order, bounded, small items together, errors as in a loop."""

import threading
import time

import pytest

from deltavcs.pool import Pool
from deltavcs.resources import SPAN_BYTES, Resources

MIB = 1 << 20


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("size", [None, lambda i: 10, lambda i: MIB if i % 3 else 0])
def test_results_come_in_order(threads, size):
    with Pool(Resources(threads=threads)) as pool:
        assert list(pool.map(lambda i: i * i, range(1000), size=size)) == [i * i for i in range(1000)]
        assert list(pool.map(str, [], size=size)) == []


def test_no_more_is_taken_than_the_window_and_its_batches():
    """An endless source is read as far ahead as the budget allows, and no further."""
    taken = []

    def source():
        for i in range(100_000):
            taken.append(i)
            yield i

    resources = Resources(threads=2)
    with Pool(resources) as pool:
        results = pool.map(lambda i: i, source())
        assert next(results) == 0
        assert len(taken) <= resources.window
        results = pool.map(lambda i: i, source(), size=lambda _: SPAN_BYTES // 4)
        taken.clear()
        assert next(results) == 0
        assert len(taken) <= 4 * resources.window


def test_small_items_share_a_task():
    with Pool(Resources(threads=2)) as pool:
        seen = list(pool.map(lambda _: threading.get_ident(), range(64), size=lambda _: 10))
    assert len(set(seen)) == 1


def test_the_first_error_is_raised_where_it_stands():
    def work(i):
        if i in (5, 7):
            raise ValueError(str(i))
        return i

    for size in (None, lambda _: 1):
        with Pool(Resources(threads=3)) as pool:
            results = pool.map(work, range(100_000), size=size)
            with pytest.raises(ValueError, match="5"):
                list(results)


def test_one_pool_serves_a_pipeline():
    """The second stage draws from the first on the same threads, as the writer does."""
    with Pool(Resources(threads=1)) as pool:
        first = pool.map(lambda i: i + 1, range(500), size=lambda _: MIB)
        second = pool.map(lambda i: i * 2, (j for i in first for j in (i, i)), size=lambda _: 1000)
        assert sum(second) == 4 * sum(range(1, 501))


def test_a_pool_is_left_when_its_workers_are_done(monkeypatch) -> None:
    """A worker that goes on would write to files that are closed, or to those that got their numbers."""
    done: list[int] = []

    def work(i: int) -> None:
        time.sleep(0.2)
        done.append(i)

    pool = Pool(Resources(threads=2))
    real, calls = pool._executor.shutdown, []

    def shutdown(**options: bool) -> None:
        calls.append(options)
        if len(calls) == 1:  # Ctrl-C while it waits
            raise KeyboardInterrupt
        real(**options)

    monkeypatch.setattr(pool._executor, "shutdown", shutdown)
    with pytest.raises(KeyboardInterrupt), pool:
        next(pool.map(work, range(8)))
    assert done
    assert not any(t.is_alive() for t in pool._executor._threads)
