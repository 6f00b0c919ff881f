"""One run of `dvx`: its options, and what a command needs of the world outside the library.

The working directory, the environment and the clock are read here and nowhere else, and passed on.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import deltavcs as dv
from dvx import output, terminal

if TYPE_CHECKING:
    from deltavcs.repo import Repository
    from deltavcs.resources import Resources, StageTime


@dataclass(slots=True)
class Session:
    """The options that every command has, and the services that most use.

    Attributes:
        repo: the directory of `--repo`; None takes DVX_REPO or looks upwards.
        json: print JSON, errors included.
        quiet: print nothing but errors.
        memory: budget in bytes; None for the library's.
        threads: None for one per core.
        profile: measure where the time goes, and say so after the result.
    """

    repo: Path | None = None
    json: bool = False
    quiet: bool = False
    memory: int | None = None
    threads: int | None = None
    profile: bool = False
    stages: list[StageTime] = field(default_factory=list)
    _opened: Repository | None = None

    def repository(self) -> Repository:
        """Open the repository that the user means.

        Raises:
            NotFoundError: `no-repository`.
        """
        given = self.repo or (Path(found) if (found := os.environ.get("DVX_REPO")) else None)
        self._opened = dv.open(given) if given is not None else dv.discover(_here())
        return self._opened

    def warn_of_broken_refs(self) -> None:
        """Say which refs the command had to leave out."""
        for error in self._opened.refs.broken.values() if self._opened is not None else ():
            self.note(f"{error}: it is left out; 'dvx reflog' shows what it was")

    @contextmanager
    def working(self) -> Iterator[Repository]:
        """The repository that the user means, for work on weights within the options' resources."""
        with self.resources() as resources:
            yield self.repository().using(resources=resources)

    @contextmanager
    def resources(self) -> Iterator[Resources]:
        """Threads, memory, and a progress bar on the terminal, for work on weights."""
        from dvx.progress import bar

        given = {"threads": self.threads, "memory_bytes": self.memory}
        limits = {name: value for name, value in given.items() if value is not None}
        profile = dv.Profile(time.perf_counter if self.profile else None)
        with bar(enabled=not self.quiet) as report:
            yield dv.Resources(**limits, progress=report, profile=profile)
        self.stages = profile.rows()

    @property
    def width(self) -> int | None:
        """Columns of the terminal; None in a pipe."""
        return terminal.width(sys.stdout)

    def emit(self, document: Callable[[], Mapping[str, object]], lines: Iterable[str]) -> None:
        """Print the result: a JSON document under `--json`, else lines.

        Args:
            document: makes the document; called only if it is wanted.
            lines: for people; best a generator, which is not run if it is not wanted.
        """
        if self.json:
            output.print_json({**document(), **self._profile_document()})
        elif not self.quiet:
            output.print_lines(itertools.chain(lines, profile_lines(self.stages)))

    def _profile_document(self) -> dict[str, object]:
        if not self.profile:
            return {}
        rows = [{**dataclasses.asdict(s), "gb_per_s": s.gb_per_s} for s in self.stages]
        return {"profile": rows}

    def note(self, text: str) -> None:
        """Say what is not empty beside the result: on stderr, neither under `--json` nor `--quiet`."""
        if text and not (self.json or self.quiet):
            import click

            label = click.style("note:", fg="yellow")
            terminal.say(f"{label} {text}", sys.stderr)


def profile_lines(stages: list[StageTime]) -> Iterator[str]:
    """Where the time went: seconds of all threads together, and speed per thread."""
    if not stages:
        return
    yield ""
    yield f"{'stage':14}{'seconds':>9}{'GB/s':>8}"
    for s in stages:
        speed = f"{s.gb_per_s:.2f}" if s.gb_per_s is not None else ""
        yield f"{s.stage:14}{s.seconds:>9.3f}{speed:>8}"


def _here() -> Path:
    """The working directory, which may have been removed under our feet."""
    try:
        return Path.cwd()
    except FileNotFoundError as exc:
        raise dv.InvalidInputError(
            "the current directory does not exist any more",
            kind=dv.ErrorKind.BAD_PATH,
            advice=dv.Advice.CHANGE_DIRECTORY,
        ) from exc
