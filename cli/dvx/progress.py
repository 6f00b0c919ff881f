"""The progress bar: on stderr, only on a terminal, only for what takes longer than a second."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from deltavcs.resources import Progress as Report

DELAY_S = 1.0

# Stages that count rows of a task rather than bytes.
COUNTED = frozenset({"evaluating", "gathering"})


@contextmanager
def bar(*, enabled: bool) -> Iterator[Report]:
    """Yield what an operation tells its progress to (`deltavcs.resources.Progress`)."""
    if not (enabled and sys.stderr.isatty()):
        yield _nothing
        return
    shown = _Bar()
    try:
        yield shown
    finally:
        shown.close()


def _nothing(stage: str, done_bytes: int, total_bytes: int) -> None:
    pass


class _Bar:
    """Appears after `DELAY_S`, also where nothing was reported yet; one line per stage, gone at the end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest = ("working", 0, 0)
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._stage = ""
        self._closed = False
        self._timer = threading.Timer(DELAY_S, self._show)
        self._timer.daemon = True
        self._timer.start()

    def __call__(self, stage: str, done_bytes: int, total_bytes: int) -> None:
        with self._lock:
            self._latest = (stage, done_bytes, total_bytes)
            self._update()

    def close(self) -> None:
        """Take the bar away."""
        self._timer.cancel()
        with self._lock:
            self._closed = True
            if self._progress is not None:
                self._progress.stop()

    def _show(self) -> None:
        made = _make()
        with self._lock:
            if not self._closed:
                self._progress = made
                made.start()
                self._update()

    def _update(self) -> None:
        if self._progress is None:
            return
        stage, done, total = self._latest
        if stage != self._stage:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task, self._stage = self._progress.add_task(stage, total=total or None), stage
        if self._task is not None:
            self._progress.update(self._task, completed=done, total=total or None)


def _make() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        Task,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.text import Text

    class Amount(DownloadColumn):
        def render(self, task: Task) -> Text:
            if task.description not in COUNTED:
                return super().render(task)
            return Text(f"{int(task.completed)}/{int(task.total or 0)} rows", style="progress.download")

    class Speed(TransferSpeedColumn):
        def render(self, task: Task) -> Text:
            return Text() if task.description in COUNTED else super().render(task)

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        Amount(binary_units=True),
        Speed(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
