"""A bounded thread pool whose results come in order. The heavy calls of this library release the GIL."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

from deltavcs.interrupts import to_the_end
from deltavcs.resources import SPAN_BYTES, Resources

In = TypeVar("In")
Out = TypeVar("Out")

_BATCH_BYTES = SPAN_BYTES
_BATCH_ITEMS = 256


def _batches(items: Iterable[In], size: Callable[[In], int] | None) -> Iterator[list[In]]:
    """Items together until they have `_BATCH_BYTES`; one by one without `size`."""
    batch: list[In] = []
    n_bytes = 0
    for item in items:
        batch.append(item)
        n_bytes += _BATCH_BYTES if size is None else size(item)
        if n_bytes >= _BATCH_BYTES or len(batch) >= _BATCH_ITEMS:
            yield batch
            batch, n_bytes = [], 0
    if batch:
        yield batch


def _all(fn: Callable[[In], Out], batch: list[In]) -> list[Out]:
    return [fn(item) for item in batch]


class Pool:
    """A thread pool whose results come back in order, with a bound on what is in flight.

    Use as a context manager; leaving it cancels what has not started.
    """

    def __init__(self, resources: Resources) -> None:
        self._window = resources.window
        self._executor = ThreadPoolExecutor(
            max_workers=max(1, min(resources.threads, resources.window)), thread_name_prefix="dvx"
        )

    def map(
        self, fn: Callable[[In], Out], items: Iterable[In], *, size: Callable[[In], int] | None = None
    ) -> Iterator[Out]:
        """Yield `fn(item)` in order of the items. The first error cancels the rest and is raised.

        Args:
            size: bytes of an item. Small ones are then done several at a time: handing one to a thread
                and back takes as long as decoding 64 KiB.
        """
        pending: deque[Future[list[Out]]] = deque()
        try:
            for batch in _batches(items, size):
                pending.append(self._executor.submit(_all, fn, batch))
                if len(pending) >= self._window:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not before the last worker is done, whatever is pressed meanwhile: it may write to a file that the
        # caller is about to close, and whose number the next file that is opened would get.
        to_the_end(lambda: self._executor.shutdown(wait=True, cancel_futures=True))
