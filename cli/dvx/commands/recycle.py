"""`dvx recycle`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

import deltavcs as dv
from dvx import blas, options, progress, reports, text
from dvx.app import command
from dvx.exits import CONFLICT, INTEGRITY, STORAGE
from dvx.session import Session
from dvx.table import Column, table

if TYPE_CHECKING:
    from deltavcs.porcelain.recycle import Recycled
    from deltavcs.resources import Progress as Report
    from deltavcs.resources import Resources
    from deltavcs.steps.stages import Stage

_STDERR = 2  # the process's own, whatever sys.stderr is


@command(
    examples=[
        (
            "dvx recycle --bases v1 v2 v3 --train 'python train.py {init} {out}' --as chat",
            "",
        ),
        ("dvx recycle --bases v1 v2 --train '…' --as chat --dry-run", "what would run, and what is done"),
    ],
    statuses=(CONFLICT, INTEGRITY, STORAGE),
)
@click.option(
    "--bases", required=True, multiple=True, metavar="REV…", help="Versions of the base, oldest first."
)
@click.argument("more_bases", nargs=-1, metavar="[REV…]")
@click.option(
    "--train", required=True, metavar="CMD",
    help="Your training command, with {init} for the directory to start from and {out} for the one to write.",
)  # fmt: skip
@click.option("--as", "name", required=True, metavar="NAME", help="Results are the branches NAME/BASE.")
@click.option(
    "--iterative/--direct", default=True, show_default=True,
    help="Carry every stage's diff vector on, or that of plain fine-tuning of the version before.",
)  # fmt: skip
@click.option(
    "--work", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Where models are checked out and trained; by default ./NAME.recycle.",
)  # fmt: skip
@click.option("--keep", is_flag=True, help="Leave the directories of finished stages.")
@click.option("-n", "--dry-run", is_flag=True, help="Print the stages, and run none.")
@options.works
def recycle(
    session: Session,
    bases: tuple[str, ...],
    more_bases: tuple[str, ...],
    train: str,
    name: str,
    iterative: bool,
    work: Path | None,
    keep: bool,
    dry_run: bool,
) -> None:
    """Fine-tune new versions of a base from what was learnt before.

    Each base gets the last diff vector, is fine-tuned with your command, and committed; its new diff vector
    goes on to the next. A stage that is finished is never run again: after a failure, or a crash, repeat
    the command.

    CMD is split into words and run without a shell; for pipes or variables write sh -c '…'. What it
    prints goes to stderr.
    """
    repo = session.repository()
    with _resources(session) as (resources, bar):
        training = dv.Training(
            train,
            work or Path(f"{name.replace('/', '-')}.recycle"),
            keep,
            run=partial(_run, bar),
            watch=partial(_announce, session, bar),
        )
        done = dv.recycle(
            repo.using(resources=resources),
            [*bases, *more_bases],
            training,
            name=name,
            iterative=iterative,
            dry_run=dry_run,
        )
    session.emit(lambda: _document(done, dry_run), _lines(done, dry_run, session.width))


class _Bar:
    """A progress bar that can be taken away: the user's command writes to the same terminal."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._stack = ExitStack()
        self._report: Report | None = None

    def __call__(self, stage: str, done_bytes: int, total_bytes: int) -> None:
        """Show how far a stage is."""
        if self._report is None:
            self._report = self._stack.enter_context(progress.bar(enabled=self._enabled))
        self._report(stage, done_bytes, total_bytes)

    def hide(self) -> None:
        """Take it away until something is reported again."""
        self._report = None
        self._stack.close()


@contextmanager
def _resources(session: Session) -> Iterator[tuple[Resources, _Bar]]:
    """The session's resources with a bar of their own."""
    bare, bar = replace(session, quiet=True), _Bar(enabled=not session.quiet)
    try:
        with bare.resources() as resources:
            yield replace(resources, progress=bar), bar
    finally:
        bar.hide()
    session.stages = bare.stages


def _announce(session: Session, bar: _Bar, stage: Stage, n_stages: int) -> None:
    bar.hide()
    session.note(f"stage {stage.position} of {n_stages}: {text.plain(stage.text)}")


def _run(bar: _Bar, words: Sequence[str]) -> int:
    """Run the user's command; its output must not mix with ours."""
    bar.hide()
    sys.stderr.flush()
    return subprocess.run(list(words), check=False, stdout=_STDERR, env=blas.environment()).returncode


def _document(done: Recycled, dry_run: bool) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "name": done.name,
        "mode": done.mode,
        "stages": [
            {
                "stage": r.stage.position,
                "branch": r.stage.branch,
                "base": r.stage.base,
                "delta": r.stage.delta,
                "init": r.stage.init,
                "what": r.stage.text,
                "commit": r.commit,
                "reused": r.reused,
            }
            for r in done.stages
        ],
    }


def _lines(done: Recycled, dry_run: bool, width: int | None) -> Iterator[str]:
    columns = [
        Column("stage", right=True),
        Column("branch", least=12, colour="green", bold=True),
        Column("what", least=20),
        Column("commit", colour="blue"),
        Column(""),
    ]
    rows = [
        (
            str(r.stage.position),
            text.plain(r.stage.branch),
            text.plain(r.stage.text),
            text.short(r.commit),
            "to do" if r.commit is None else "done before" if r.reused else "done",
        )
        for r in done.stages
    ]
    yield from table(columns, rows, width=width)
    if dry_run:
        yield "a dry run: nothing was run"
    else:
        yield reports.next_step(f"dvx checkout {done.stages[-1].stage.branch} -o DIR")
