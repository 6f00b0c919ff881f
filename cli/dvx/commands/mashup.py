"""`dvx mashup`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import click

import deltavcs as dv
from dvx import evaluating, merging, options, reports
from dvx.app import command
from dvx.exits import CONFLICT, INTEGRITY, STORAGE
from dvx.options import REVISION
from dvx.session import Session
from dvx.table import table

if TYPE_CHECKING:
    from deltavcs.porcelain.mashup import Mashup


@command(
    examples=[
        ("dvx mashup --task piqa --as piqa-init", "the average of the two best"),
        ("dvx mashup --task piqa --k 3 --method dare-ties --density 0.5 --as piqa-init", ""),
        ("dvx checkout piqa-init -o init", "then train, and 'dvx commit out' finds where it started"),
    ],
    statuses=(CONFLICT, INTEGRITY, STORAGE),
)
@click.option("--task", required=True, metavar="TASK", help="What you are going to train for.")
@click.option(
    "--k", type=click.IntRange(1), default=2, show_default=True, metavar="K", help="How many to merge."
)
@merging.method_options
@click.option(
    "--init", type=REVISION, metavar="REV",
    help="Adapters: the one that all of them started from, for methods with a base.",
)  # fmt: skip
@click.option("--mask-seed", type=int, metavar="N", help="dare: seed of the random masks.")
@click.option(
    "--metric", type=click.Choice(["loss", "accuracy"]), default="loss", show_default=True, help="Rank by it."
)
@click.option("--bases", is_flag=True, help="Let bases take part as well.")
@click.option("--all", "every", is_flag=True, help="All checkpoints of a branch, not only its last.")
@evaluating.selection
@evaluating.sampling
@evaluating.running
@click.option("--as", "name", required=True, metavar="NAME", help="The branch.")
@click.option("-n", "--dry-run", is_flag=True, help="Rank and plan; commit nothing but scores.")
@options.message
@options.onto
@options.works
def mashup(
    session: Session,
    task: str,
    k: int,
    how: dv.MergeMethod,
    init: str | None,
    mask_seed: int | None,
    metric: str,
    bases: bool,
    every: bool,
    base: str | None,
    where: str | None,
    exclude_tasks: tuple[str, ...],
    adapters: bool | None,
    samples: int,
    seed: int,
    devices: tuple[str, ...],
    dtype: str | None,
    batch_size: int | str,
    name: str,
    dry_run: bool,
    message: str,
    force: bool,
) -> None:
    """Merge the checkpoints that fit a new task best, to train from.

    Ranks as 'dvx rank' does, merges the best K, and commits the result with what it was made from: 'dvx
    lineage' shows it. Train from a checkout of it instead of from the base.
    """
    method = how if mask_seed is None else replace(how, options={**how.options, "seed": mask_seed})
    method = replace(method, base=init)
    chosen = evaluating.make_selection(
        metric, base, where, exclude_tasks, adapters, bases=bases, last_only=not every
    )
    with session.working() as repo:
        done = dv.mashup(
            repo,
            task,
            k,
            draft=dv.Draft(name, message, force=force),
            method=method,
            selection=chosen,
            running=evaluating.make_running(samples, seed, devices, dtype, batch_size),
            dry_run=dry_run,
        )
    if done.ranking.substituted:
        session.note(evaluating.split_note(task, done.ranking.split))
    made = done.merged.recorded
    session.note(reports.overflow_note(made.overflowed if made else {}))
    session.emit(lambda: _document(done), _lines(done, session.width))


def _document(done: Mashup) -> dict[str, object]:
    from dvx.output import jsonable

    return {"ranking": jsonable(done.ranking), "merged": merging.document(done.merged)}


def _lines(done: Mashup, width: int | None) -> Iterator[str]:
    yield from table(evaluating.RANKED, evaluating.ranked_rows(done.ranking)[: len(done.chosen)], width=width)
    yield ""
    yield from merging.lines(done.merged)
    if done.merged.recorded is not None:
        yield reports.next_step(f"dvx lineage {done.merged.recorded.name}", "where it comes from")
