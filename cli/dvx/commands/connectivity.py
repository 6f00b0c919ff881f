"""`dvx connectivity`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

import deltavcs as dv
from dvx import evaluating, options, terminal, text
from dvx.app import command
from dvx.exits import INTEGRITY, STORAGE
from dvx.failures import Usage
from dvx.options import REVISION
from dvx.session import Session

if TYPE_CHECKING:
    from deltavcs.porcelain.connectivity import Segment

_PLOT_WIDTH = 60


def _check_plot(ctx: click.Context, param: click.Parameter, plot: Path | None) -> Path | None:
    """Refuse a file that could not be written as SVG: said after the evaluation, it would be too late."""
    if plot is None:
        return None
    if plot.suffix.lower() != ".svg":
        raise Usage(
            f"{str(plot)!r} does not end in .svg, and the plot is an SVG document",
            hint=f"For example --plot {plot.with_suffix('.svg') if plot.name else 'curve.svg'}",
            ctx=ctx,
        )
    if not plot.parent.is_dir():
        raise Usage(
            f"cannot write {str(plot)!r}: there is no folder {str(plot.parent)!r}",
            hint="Make it first, or name another file.",
            ctx=ctx,
        )
    if not os.access(plot.parent, os.W_OK):
        raise Usage(
            f"cannot write {str(plot)!r}: the folder {str(plot.parent)!r} may not be written to",
            hint="Name a file in another folder.",
            ctx=ctx,
        )
    return plot


@command(
    examples=[
        ("dvx connectivity v1 v2 --task piqa", "is there a barrier between them?"),
        ("dvx connectivity v1 v2 --task piqa --points 21 --plot curve.svg", ""),
    ],
    statuses=(INTEGRITY, STORAGE),
)
@click.argument("start", type=REVISION, metavar="A")
@click.argument("end", type=REVISION, metavar="B")
@click.option("--task", required=True, metavar="TASK", help="A task; see 'dvx task list'.")
@click.option("--points", type=click.IntRange(2), default=11, show_default=True, help="With both ends.")
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", callback=_check_plot,
    help="Draw it as SVG as well.",
)  # fmt: skip
@evaluating.sampling
@evaluating.running
@options.works
def connectivity(
    session: Session,
    start: str,
    end: str,
    task: str,
    points: int,
    plot: Path | None,
    samples: int,
    seed: int,
    devices: tuple[str, ...],
    dtype: str | None,
    batch_size: int | str,
) -> None:
    """Measure the loss on the straight line from A to B.

    A flat line means that both lie in one region; transfers between such models work. The barrier is how
    far the loss rises above the line between its ends.
    """
    running = evaluating.make_running(samples, seed, devices, dtype, batch_size)
    with session.working() as repo:
        found = dv.connectivity(repo, start, end, task, points=points, running=running)
    if plot is not None:
        plot.write_text(found.svg(), encoding="utf-8")
    if found.substituted:
        session.note(evaluating.split_note(task, found.split))
    session.emit(lambda: _document(found), _lines(found, session.width, plot))


def _document(found: Segment) -> dict[str, object]:
    from dvx.output import jsonable

    return dict(jsonable(found))


def _lines(found: Segment, width: int | None, plot: Path | None) -> Iterator[str]:
    room = _PLOT_WIDTH if width is None else max(10, min(_PLOT_WIDTH, width - 14))
    ascii_only = not terminal.shows_lines(sys.stdout)
    yield from found.text(width=room, ascii_only=ascii_only).splitlines()
    yield (
        f"{text.plain(found.start_name)} {'->' if ascii_only else '→'} {text.plain(found.end_name)}, "
        f"{text.count(found.n_samples, 'row')} of {text.plain(found.task)} ({found.split})"
    )
    if plot is not None:
        yield f"drawn in {text.plain(str(plot))}"
