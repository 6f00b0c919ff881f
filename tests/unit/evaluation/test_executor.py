from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from deltavcs.errors import InvalidInputError
from deltavcs.evaluation.executor import Executor, ItemOutcome, LocalExecutor


def squares(device: str) -> Callable[[int], int]:
    del device
    return lambda item: item * item


def test_results_as_they_come() -> None:
    executor: Executor = LocalExecutor()
    outcomes = executor.run([3, 1, 2], squares)
    assert next(outcomes) == ItemOutcome(3, result=9)
    assert [o.result for o in outcomes] == [1, 4]


def test_known_results_are_recalled_first_and_cost_nothing() -> None:
    known = {1: 100, 3: 300}
    found = list(LocalExecutor().run([1, 2, 3], squares, recall=known.get))
    assert found == [
        ItemOutcome(1, result=100, recalled=True),
        ItemOutcome(3, result=300, recalled=True),
        ItemOutcome(2, result=4),
    ]

    def never(device: str) -> Callable[[int], int]:
        raise AssertionError("no worker is needed")

    assert len(list(LocalExecutor().run([1, 3], never, recall=known.get))) == 2


@pytest.mark.parametrize("devices", [("a",), ("a", "b")])
def test_an_items_error_is_its_own(devices: tuple[str, ...]) -> None:
    def inverse(device: str) -> Callable[[int], float]:
        return lambda item: 1 / item

    found = {o.item: o for o in LocalExecutor(devices).run([0, 1, 2], inverse)}
    assert isinstance(found[0].error, ZeroDivisionError)
    assert found[0].result is None
    assert (found[1].result, found[2].result) == (1.0, 0.5)


def test_one_worker_per_device_each_in_one_thread() -> None:
    started: list[str] = []
    used: dict[str, set[int]] = {"a": set(), "b": set()}
    both = threading.Barrier(2, timeout=10)

    def start(device: str) -> Callable[[int], str]:
        started.append(device)

        def work(item: int) -> str:
            if not used[device]:
                both.wait()  # passes only if both devices work at the same time
            used[device].add(threading.get_ident())
            return device

        return work

    found = list(LocalExecutor(("a", "b")).run(list(range(20)), start))
    assert sorted(o.item for o in found) == list(range(20))
    assert sorted(started) == ["a", "b"]
    assert {o.result for o in found} == {"a", "b"}
    assert [len(threads) for threads in used.values()] == [1, 1]


def test_a_device_that_does_not_start() -> None:
    def start(device: str) -> Callable[[int], int]:
        if device == "bad":
            raise RuntimeError("no such device")
        return lambda item: item

    assert len(list(LocalExecutor(("good", "bad")).run([1, 2, 3], start))) == 3
    with pytest.raises(RuntimeError, match="no such device"):
        list(LocalExecutor(("bad",)).run([1, 2], start))

    def none(device: str) -> Callable[[int], int]:
        raise RuntimeError(f"{device} is broken")

    with pytest.raises(RuntimeError, match="is broken"):
        list(LocalExecutor(("a", "b")).run([1, 2], none))


def test_leaving_early_stops_the_threads() -> None:
    done: list[int] = []

    def start(device: str) -> Callable[[int], None]:
        return lambda item: done.append(item)

    before = threading.active_count()
    outcomes = LocalExecutor(("a", "b")).run(list(range(10_000)), start)
    next(iter(outcomes))
    outcomes.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_interrupts_pass_through() -> None:
    def start(device: str) -> Callable[[int], int]:
        def work(item: int) -> int:
            raise KeyboardInterrupt

        return work

    for devices in (("a",), ("a", "b")):
        with pytest.raises(KeyboardInterrupt):
            list(LocalExecutor(devices).run([1, 2], start))


@pytest.mark.parametrize("devices", [(), ("a", "a")])
def test_bad_devices(devices: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInputError):
        LocalExecutor(devices)
