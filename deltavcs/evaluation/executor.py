"""The embarrassingly parallel part: one function over many items, one worker per device.

`Executor` is all that a cluster engine has to offer; `LocalExecutor` runs in this process.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from deltavcs.errors import ErrorKind, InvalidInputError

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

Worker = Callable[[ItemT], ResultT]
StartWorker = Callable[[str], Worker[ItemT, ResultT]]
Recall = Callable[[ItemT], ResultT | None]


@dataclass(frozen=True, slots=True)
class ItemOutcome(Generic[ItemT, ResultT]):
    """What became of one item: exactly one of `result` and `error` is set.

    Attributes:
        item: the item.
        result: what the worker returned, or what was recalled.
        error: what the worker raised.
        recalled: True if the result was there before and no worker ran.
    """

    item: ItemT
    result: ResultT | None = None
    error: Exception | None = None
    recalled: bool = False


class Executor(Protocol):
    """Runs a function over items, in any order."""

    def run(
        self,
        items: Sequence[ItemT],
        start_worker: StartWorker[ItemT, ResultT],
        *,
        recall: Recall[ItemT, ResultT] | None = None,
    ) -> Iterator[ItemOutcome[ItemT, ResultT]]:
        """Yield one outcome per item, as they come.

        Args:
            items: what to work on.
            start_worker: called at most once per device, with its name, and only if there is work; returns
                the function for one item. A worker is used by one thread.
            recall: returns the result of an item that is already known, else None. Called once per item, in
                order, before any work; recalled outcomes come first.

        Raises:
            Exception: what `start_worker` raised, if no worker could start. An item's own error becomes its
                outcome and stops nothing else.
        """
        ...


class LocalExecutor:
    """Runs in this process; one thread per device, or the caller's own thread if there is one device.

    Closing the iterator (leaving a loop, an interrupt) starts no further item; items under way are finished
    first.

    Args:
        devices: device names, as torch spells them.
    """

    def __init__(self, devices: Sequence[str] = ("cpu",)) -> None:
        if not devices or len(set(devices)) != len(devices):
            raise InvalidInputError(
                f"devices must be named, each once: {list(devices)}", kind=ErrorKind.BAD_ARGUMENT
            )
        self.devices = tuple(devices)

    def run(
        self,
        items: Sequence[ItemT],
        start_worker: StartWorker[ItemT, ResultT],
        *,
        recall: Recall[ItemT, ResultT] | None = None,
    ) -> Iterator[ItemOutcome[ItemT, ResultT]]:
        """See `Executor.run`."""
        left: list[ItemT] = []
        for item in items:
            known = recall(item) if recall is not None else None
            if known is None:
                left.append(item)
            else:
                yield ItemOutcome(item, result=known, recalled=True)
        if not left:
            return
        if len(self.devices) == 1 or len(left) == 1:
            worker = start_worker(self.devices[0])
            for item in left:
                yield _work(worker, item)
        else:
            yield from _run_threads(left, self.devices[: len(left)], start_worker)


def _work(worker: Worker[ItemT, ResultT], item: ItemT) -> ItemOutcome[ItemT, ResultT]:
    try:
        return ItemOutcome(item, result=worker(item))
    except Exception as exc:  # kept, not swallowed: it is the item's outcome
        return ItemOutcome(item, error=exc)


def _run_threads(
    items: list[ItemT], devices: Sequence[str], start_worker: StartWorker[ItemT, ResultT]
) -> Iterator[ItemOutcome[ItemT, ResultT]]:
    todo: queue.SimpleQueue[ItemT] = queue.SimpleQueue()
    for item in items:
        todo.put(item)
    done: queue.SimpleQueue[ItemOutcome[ItemT, ResultT] | BaseException | None] = queue.SimpleQueue()
    stop = threading.Event()
    threads = [
        threading.Thread(target=_serve, args=(device, start_worker, todo, done, stop), daemon=True)
        for device in devices
    ]
    for thread in threads:
        thread.start()
    try:
        yield from _collect(done, workers=len(threads), expected=len(items))
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _serve(
    device: str,
    start_worker: StartWorker[ItemT, ResultT],
    todo: queue.SimpleQueue[ItemT],
    done: queue.SimpleQueue[ItemOutcome[ItemT, ResultT] | BaseException | None],
    stop: threading.Event,
) -> None:
    """Work until nothing is left; ends with None, or with the error that ended this worker."""
    try:
        worker = start_worker(device)
        while not stop.is_set():
            try:
                item = todo.get_nowait()
            except queue.Empty:
                break
            done.put(_work(worker, item))
    except BaseException as exc:
        done.put(exc)
    else:
        done.put(None)


def _collect(
    done: queue.SimpleQueue[ItemOutcome[ItemT, ResultT] | BaseException | None],
    *,
    workers: int,
    expected: int,
) -> Iterator[ItemOutcome[ItemT, ResultT]]:
    failure: BaseException | None = None
    while workers:
        message = done.get()
        if isinstance(message, ItemOutcome):
            expected -= 1
            yield message
            continue
        workers -= 1
        failure = failure or message
    # A device that would not start is no loss while another did its share.
    if expected and failure is not None:
        raise failure
