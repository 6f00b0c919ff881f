"""Bounded, ordered work on threads. The heavy calls of this library release the GIL."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")

DEFAULT_MEMORY = 2 << 30
SPAN_BYTES = 4 << 20
# Raw target, base, base's base, output and the coder's own arrays, per span in flight.
_SPAN_FACTOR = 8
_BATCH_BYTES = SPAN_BYTES
_BATCH_ITEMS = 256


_NOTHING = contextlib.nullcontext()


class Progress(Protocol):
    """Told how far a long operation is; called from the calling thread only."""

    def __call__(self, stage: str, done_bytes: int, total_bytes: int) -> None:
        """`done_bytes` of `total_bytes` of `stage` are finished."""


def no_progress(stage: str, done_bytes: int, total_bytes: int) -> None:
    """Report nothing."""


class Profile:
    """Where the time goes: seconds and bytes by stage, summed over all threads.

    Args:
        timer: gives seconds, such as `time.perf_counter`; None measures nothing.
    """

    def __init__(self, timer: Callable[[], float] | None = None) -> None:
        self._timer = timer
        self._lock = threading.Lock()
        self._stages: dict[str, list[float]] = {}

    def stage(self, name: str, n_bytes: int = 0) -> contextlib.AbstractContextManager[None]:
        """Count the time of the block, in which `n_bytes` are worked on."""
        return _NOTHING if self._timer is None else self._measure(self._timer, name, n_bytes)

    @contextlib.contextmanager
    def _measure(self, timer: Callable[[], float], name: str, n_bytes: int) -> Iterator[None]:
        started = timer()
        try:
            yield
        finally:
            self.add(name, timer() - started, n_bytes)

    def add(self, name: str, seconds: float, n_bytes: int) -> None:
        """Count time that was measured elsewhere."""
        if self._timer is None:
            return
        with self._lock:
            sums = self._stages.setdefault(name, [0.0, 0.0])
            sums[0] += seconds
            sums[1] += n_bytes

    def rows(self) -> list[Stage]:
        """The stages, in the order in which each was first finished."""
        with self._lock:
            return [Stage(name, seconds, int(n)) for name, (seconds, n) in self._stages.items()]


@dataclass(frozen=True, slots=True)
class Stage:
    """Seconds of all threads together, and bytes worked on."""

    stage: str
    seconds: float
    bytes: int

    @property
    def gb_per_s(self) -> float | None:
        """10^9 bytes per second and thread; None if nothing was measured."""
        return self.bytes / self.seconds / 1e9 if self.seconds and self.bytes else None


NO_PROFILE = Profile()


def available_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Resources:
    """What an operation may use.

    Attributes:
        threads: worker threads.
        memory_bytes: budget for the buffers in flight; never depends on the size of a model.
        progress: told about finished bytes.
        profile: collects where the time goes.
    """

    threads: int = field(default_factory=available_cores)
    memory_bytes: int = DEFAULT_MEMORY
    progress: Progress = no_progress
    profile: Profile = NO_PROFILE

    @property
    def window(self) -> int:
        """How many spans may be in flight at once."""
        by_memory = self.memory_bytes // (SPAN_BYTES * _SPAN_FACTOR)
        return max(1, min(4 * self.threads, by_memory))


class Scratch(threading.local):
    """One buffer per thread, used again and again: the system's fresh pages cost as much as decoding does."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def take(self, n_bytes: int) -> memoryview:
        """`n_bytes` of anything, to be filled; this thread's next call takes them back."""
        if len(self._buffer) < n_bytes:
            # Twice what it was: needs that grow step by step would clear it again each time.
            self._buffer = bytearray(max(n_bytes, 2 * len(self._buffer)))
        return memoryview(self._buffer)[:n_bytes]


def to_the_end(step: Callable[[], None]) -> None:
    """Run a brief step that can be begun again; an interrupt that comes meanwhile is raised after it."""
    interrupt: KeyboardInterrupt | None = None
    while True:
        try:
            step()
            break
        except KeyboardInterrupt as exc:
            interrupt = exc
    if interrupt is not None:
        raise interrupt


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
