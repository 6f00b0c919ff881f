"""What all sections share: their context, `dvx` as a process, timing, Markdown tables."""

from __future__ import annotations

import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data" / "bench"
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
Result = dict[str, Any]


@dataclass(frozen=True)
class Context:
    """How this run is done.

    Attributes:
        work: folder for repositories and models; emptied piece by piece.
        data: folder with the real pairs.
        quick: tiny sizes and one round, to show that everything runs.
        gib_max: largest model of the size sweep.
    """

    work: Path
    data: Path = SHARED
    quick: bool = False
    gib_max: float = 4.0

    def reps(self, full: int) -> int:
        """Rounds to take: `full`, or one."""
        return 1 if self.quick else full

    @contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        """An empty folder that is removed afterwards."""
        self.work.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=self.work) as path:
            yield Path(path)


@dataclass(frozen=True)
class Section:
    """One part of the report.

    Attributes:
        run: measures; what it returns is kept as JSON.
        render: the result as lines of Markdown.
        plot: draws into a folder.
    """

    name: str
    title: str
    run: Callable[[Context], Result]
    render: Callable[[Result], list[str]]
    plot: Callable[[Result, Path], None] | None = None


@dataclass(frozen=True)
class Run:
    """One finished command."""

    seconds: float
    peak_anon_mib: float = 0.0
    output: Any = field(default_factory=dict)


class CommandFailed(Exception):
    """A `dvx` command failed; the message is its own."""


def say(text: str) -> None:
    """Report progress."""
    print(text, file=sys.stderr, flush=True)


def program(name: str) -> str:
    """A program of this environment, or of the machine."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name) or name


def dvx(repo: Path, *arguments: object, watch: bool = False) -> Run:
    """Run `dvx … --json`; with `watch`, sample its anonymous memory.

    Raises:
        CommandFailed: with its standard output, which holds the error.
    """
    place = [] if arguments[0] == "init" else ["--repo", str(repo)]
    words = [program("dvx"), *map(str, arguments), *place, "--json"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DVX_")}
    environment["DVX_AUTHOR"] = "bench"
    # As in a user's shell: compiled modules are kept, as pip keeps those of a package it installs.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    peak = [0]
    started = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, env=environment)
    if watch:
        watcher = threading.Thread(target=_watch, args=(process.pid, peak))
        watcher.start()
    out, _ = process.communicate()
    seconds = time.perf_counter() - started
    if watch:
        watcher.join()
    if process.returncode:
        raise CommandFailed(f"dvx {' '.join(map(str, arguments))}: {out.decode()[:500]}")
    return Run(seconds, peak[0] / 1024, json.loads(out) if out.strip() else {})


def _watch(pid: int, peak: list[int]) -> None:
    """Peak of `RssAnon`, in KiB: pages of mapped files are not counted."""
    status = Path(f"/proc/{pid}/status")
    while True:
        try:
            found = [line for line in status.read_text().splitlines() if line.startswith("RssAnon")]
        except OSError:
            return
        if not found:
            return
        peak[0] = max(peak[0], int(found[0].split()[1]))
        time.sleep(0.005)


def command(words: list[str], **options: Any) -> float:
    """Seconds of another program."""
    started = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    return time.perf_counter() - started


def settle() -> None:
    """Let what earlier work left behind reach the disk, so that it does not slow what comes next."""
    gc.collect()
    os.sync()


def alternate(contestants: dict[str, Callable[[], float]], reps: int) -> dict[str, list[float]]:
    """Seconds of each, all taking turns."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(reps):
        for name, measure in contestants.items():
            settle()
            times[name].append(measure())
    return times


def median(times: Iterable[float]) -> float:
    return statistics.median(times)


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """A Markdown table; all columns but the first are numbers."""
    cells = list(head)
    lines = ["| " + " | ".join(cells) + " |", "|---|" + "---:|" * (len(cells) - 1)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} ×"


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 0.0995:
        return f"{1000 * seconds:.1f} ms"
    return f"{seconds:.2f} s" if seconds < 99.5 else f"{seconds:.0f} s"
