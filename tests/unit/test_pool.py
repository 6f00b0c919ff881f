"""The pool of worker threads."""

from __future__ import annotations

import time

import pytest

from deltavcs.pool import Pool
from deltavcs.resources import Resources


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
