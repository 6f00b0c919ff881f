"""What an operation may use, who is told how far it is, and where its time goes."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from deltavcs.brief import brief
from deltavcs.errors import ErrorKind, InvalidInputError

DEFAULT_MEMORY = 2 << 30
SPAN_BYTES = 4 << 20
# Raw target, base, base's base, output and the coder's own arrays, per span in flight.
_SPAN_FACTOR = 8


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

    def __repr__(self) -> str:
        return f"Profile({', '.join(self._stages)})"

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

    def rows(self) -> list[StageTime]:
        """The stages, in the order in which each was first finished."""
        with self._lock:
            return [StageTime(name, seconds, int(n)) for name, (seconds, n) in self._stages.items()]


@dataclass(frozen=True, slots=True)
class StageTime:
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
        threads: worker threads; by default one for each core that the process may use.
        memory_bytes: budget for the buffers in flight, 2 GiB by default; whatever the size of a model.
        progress: told about finished bytes.
        profile: collects where the time goes.

    Raises:
        InvalidInputError: `bad-argument` for less than one thread, or a negative budget.
    """

    threads: int = field(default_factory=available_cores)
    memory_bytes: int = DEFAULT_MEMORY
    progress: Progress = no_progress
    profile: Profile = NO_PROFILE

    __repr__ = brief

    def __post_init__(self) -> None:
        if self.threads < 1 or self.memory_bytes < 0:
            raise InvalidInputError(
                f"nothing can be done on {self.threads} threads in {self.memory_bytes} bytes",
                kind=ErrorKind.BAD_ARGUMENT,
            )

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
