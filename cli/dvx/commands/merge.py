"""`dvx merge`."""

from __future__ import annotations

from dataclasses import replace

import click

import deltavcs as dv
from dvx import evaluating, merging, options, reports
from dvx.app import command
from dvx.exits import CONFLICT, INTEGRITY, STORAGE
from dvx.failures import Usage
from dvx.options import REVISION
from dvx.session import Session


@command(
    examples=[
        ("dvx merge math code --as both", "the average of two fine-tunes"),
        ("dvx merge math code --method ties --density 0.3 --as both", ""),
        ("dvx merge math code --method task-arithmetic --weights 1,-0.5 --as only-math", "take a skill away"),
        ("dvx merge lora-a lora-b --exact --as lora-ab", "adapters, through their products"),
    ],
    statuses=(CONFLICT, INTEGRITY, STORAGE),
)
@click.argument("revisions", type=REVISION, nargs=-1, required=True, metavar="REV…")
@merging.method_options
@click.option(
    "--base", type=REVISION, metavar="REV",
    help="Of the diff vectors; by default what all were made from. For factors of adapters: the adapter that"
    " all started from.",
)  # fmt: skip
@click.option(
    "--rank", type=click.IntRange(1), metavar="R", help="Products of adapters: cut the result to this rank."
)
@click.option(
    "--task", "tasks", multiple=True, metavar="TASK",
    help="fisher, regmean: rows to gather statistics from; one for all, or one for each model.",
)  # fmt: skip
@click.option(
    "--samples", type=click.IntRange(1), metavar="N", help="fisher, regmean: rows to ask; 256 if not said."
)
@click.option(
    "--seed", type=int, metavar="N", help="dare: of the random masks; fisher, regmean: draws the rows."
)
@click.option("--device", metavar="DEV", help="fisher, regmean: where the models run.")
@click.option("--as", "name", required=True, metavar="NAME", help="The branch.")
@click.option("-n", "--dry-run", is_flag=True, help="Plan, and commit nothing.")
@options.dequantized
@options.message
@options.metadata
@options.onto
@options.works
def merge(
    session: Session,
    revisions: tuple[str, ...],
    how: dv.MergeMethod,
    base: str | None,
    rank: int | None,
    tasks: tuple[str, ...],
    samples: int | None,
    seed: int | None,
    device: str | None,
    name: str,
    dry_run: bool,
    dequantize: bool,
    message: str,
    metadata: tuple[tuple[str, str], ...],
    force: bool,
) -> None:
    """Make one checkpoint out of several.

    Configuration and tokenizer come from the first. All but fisher and regmean are stored as a formula: the
    commit takes kilobytes, and reading it computes the same bytes on every machine.
    """
    info = dv.MERGE_METHODS[how.name]
    sampled = info.statistics is not None
    if not sampled and (tasks or samples is not None or device is not None):
        raise Usage("--task, --samples and --device are for fisher and regmean: the others run no model")
    if seed is not None and not sampled and not info.masked:
        raise Usage(f"{how.name.replace('_', '-')} draws nothing at random: it has no --seed")
    masked = {"seed": seed} if seed is not None and info.masked else {}
    method = replace(how, options={**how.options, **masked}, base=base, rank=rank)
    running = dv.Running(
        samples=samples or evaluating.SAMPLES,
        seed=seed or 0,
        devices=(device or (evaluating.default_devices()[0] if sampled else "cpu"),),
        hub=evaluating.hub_options(),
    )
    draft = dv.Draft(name, message, metadata=dict(metadata), force=force)
    with session.working() as repo:
        done = dv.merge(
            repo,
            revisions,
            method,
            draft=draft,
            tasks=tasks,
            running=running,
            dry_run=dry_run,
            dequantize=dequantize,
        )
    session.emit(lambda: {"dry_run": dry_run, **merging.document(done)}, merging.lines(done))
    session.note(reports.overflow_note(done.recorded.overflowed if done.recorded else {}))
