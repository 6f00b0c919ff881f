"""`dvx rank`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import click

import deltavcs as dv
from dvx import evaluating, options, reports, text
from dvx.app import command
from dvx.exits import CONFLICT, INTEGRITY, PARTIAL, STORAGE
from dvx.failures import Usage
from dvx.options import REVISION
from dvx.session import Session
from dvx.table import Column, table

if TYPE_CHECKING:
    from deltavcs.porcelain.rank_deltas import DeltaRanking
    from deltavcs.ranking.result import Ranking


_WITH_TASK = frozenset(
    "metric last base where exclude_tasks adapters samples seed devices dtype batch_size".split()
)


@command(
    examples=[
        ("dvx rank --task piqa --k 2", "the two checkpoints that know the task best"),
        ("dvx rank --task piqa --base llama3.1 --exclude-task piqa", "as if it were a new task"),
        ("dvx rank --task piqa --where \"kind = 'finetune' AND author = 'me'\"", ""),
        ("dvx rank --for llama3.1", "which diff vectors to carry over to it; needs no data"),
    ],
    statuses=(PARTIAL, CONFLICT, INTEGRITY, STORAGE),
)
@click.option("--task", metavar="TASK", help="A task; see 'dvx task list'.")
@click.option(
    "--for", "target", type=REVISION, metavar="REV", help="Order diff vectors for recycling onto this base."
)
@click.option("--k", type=click.IntRange(1), metavar="K", help="Show only the best K.")
@click.option(
    "--metric", type=click.Choice(["loss", "accuracy"]), default="loss", show_default=True, help="Rank by it."
)
@click.option("--last", is_flag=True, help="Of each branch only the last checkpoint.")
@evaluating.selection
@evaluating.sampling
@evaluating.running
@options.works
def rank(
    session: Session,
    task: str | None,
    target: str | None,
    k: int | None,
    metric: str,
    last: bool,
    base: str | None,
    where: str | None,
    exclude_tasks: tuple[str, ...],
    adapters: bool | None,
    samples: int,
    seed: int,
    devices: tuple[str, ...],
    dtype: str | None,
    batch_size: int | str,
) -> None:
    """Rank past checkpoints by how well they do on a task.

    Every checkpoint of one architecture is asked the same rows of the task's training split, in one model
    whose weights are exchanged in place. Scores are kept: nothing is evaluated twice, and an interrupted
    ranking goes on where it was. They show in 'dvx log', 'dvx show' and 'dvx sql'.

    With --for, no model runs: diff vectors are ordered by how near their base lies to REV.
    """
    if (task is None) == (target is None):
        raise Usage("name a task with --task, or a base with --for")
    if target is not None:
        _refuse_options()
        _rank_deltas(session, target, k)
        return
    assert task is not None
    chosen = evaluating.make_selection(metric, base, where, exclude_tasks, adapters, last_only=last)
    running = evaluating.make_running(samples, seed, devices, dtype, batch_size)
    with session.working() as repo:
        found = dv.rank(repo, task, k, selection=chosen, running=running)
    if found.substituted:
        session.note(evaluating.split_note(task, found.split))
    session.emit(lambda: _document(found), _lines(found, session.width))
    if found.failed:
        raise click.exceptions.Exit(PARTIAL)


def _refuse_options() -> None:
    """With --for no model runs and nothing is selected: an option that would be ignored is a mistake."""
    context = click.get_current_context()
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is click.core.ParameterSource.COMMANDLINE
        if given and parameter.name in _WITH_TASK:
            raise Usage(f"{parameter.opts[0]} goes with --task; --for runs no model")


def _document(found: Ranking) -> dict[str, object]:
    from dvx.output import jsonable

    return dict(jsonable(found))


def _lines(found: Ranking, width: int | None) -> Iterator[str]:
    rows = evaluating.ranked_rows(found)[: len(found.top)]
    yield from table(evaluating.RANKED, rows, width=width)
    more = len(found.ranked) - len(rows)
    recalled = sum(r.recalled for r in found.ranked)
    notes = [f"{text.count(found.n_samples, 'row')} of {text.plain(found.task)} ({found.split})"]
    notes += [f"{more} more"] if more else []
    notes += [f"{recalled} known before"] if recalled else []
    cut = max((r.truncated for r in found.ranked), default=0)
    if cut:
        yield f"{cut} of {text.count(found.n_samples, 'row')} were cut to what the model can take at once"
    yield f"by {found.metric} on {', '.join(notes)}"
    for one in found.failed:
        yield f"not ranked: {reports.name(one.name)}: {text.line(one.why)}"
    if len(found.ranked) > 1:
        yield reports.next_step(f"dvx mashup --task {found.task} --as NAME", "merge the best")


def _rank_deltas(session: Session, target: str, k: int | None) -> None:
    with session.working() as repo:
        found = dv.rank_deltas(repo, target)

    def document() -> dict[str, object]:
        from dvx.output import jsonable

        return dict(jsonable(replace(found, ranked=found.ranked[:k])))

    session.emit(document, _delta_lines(found, k, session.width))


def _delta_lines(found: DeltaRanking, k: int | None, width: int | None) -> Iterator[str]:
    columns = [
        Column("rank", right=True),
        Column("‖m_t−m_s‖/‖m_s‖", right=True),  # noqa: RUF001
        Column("cos(Δ, m_t−m_s)", right=True),  # noqa: RUF001
        Column("‖Δ‖", right=True, spare=True),
        Column("fine-tune", least=12, colour="green", bold=True),
        Column("of", least=12),
        Column("trained on", spare=True),
    ]
    rows = [
        (
            str(r.rank),
            text.number(r.relative_drift),
            "-" if r.cosine is None else f"{r.cosine:+.3f}",
            text.number(r.delta_norm),
            text.plain(r.delta_name),
            text.plain(r.source_name),
            text.plain(r.task or ""),
        )
        for r in found.ranked[:k]
    ]
    if not rows:
        yield "there is no diff vector to carry over"
        return
    yield from table(columns, rows, width=width)
    yield f"nearest source base first; m_t is {text.plain(found.target_name)}"
    for one in found.failed:
        yield f"does not fit: {reports.name(one.name)}: {text.line(one.why)}"
    best = found.ranked[0]
    yield reports.next_step(f"dvx transfer --from {best.delta_name} --to {found.target_name}")
