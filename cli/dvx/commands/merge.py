"""`dvx merge`."""

from __future__ import annotations

import click

from deltavcs.merging.methods import method_named
from deltavcs.merging.settings import MergeMethod
from dvx import evaluating, merging, options
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
    "--base", type=REVISION, metavar="REV", help="Of the diff vectors; by default what all were made from."
)
@click.option("--rank", type=click.IntRange(1), metavar="R", help="--exact: cut the result to this rank.")
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
@options.message
@options.metadata
@options.works
def merge(
    session: Session,
    revisions: tuple[str, ...],
    how: MergeMethod,
    base: str | None,
    rank: int | None,
    tasks: tuple[str, ...],
    samples: int | None,
    seed: int | None,
    device: str | None,
    name: str,
    dry_run: bool,
    message: str,
    metadata: tuple[tuple[str, str], ...],
) -> None:
    """Make one checkpoint out of several.

    Configuration and tokenizer come from the first. All but fisher and regmean are stored as a formula: the
    commit takes kilobytes, and reading it computes the same bytes on every machine.
    """
    from deltavcs.porcelain.merge import Sampling
    from deltavcs.porcelain.merge import merge as verb

    info = method_named(how.name)
    sampled = info.statistics is not None
    if not sampled and (tasks or samples is not None or device is not None):
        raise Usage("--task, --samples and --device are for fisher and regmean: the others run no model")
    if seed is not None and not sampled and not info.masked:
        raise Usage(f"{how.name.replace('_', '-')} draws nothing at random: it has no --seed")
    masked = {"seed": seed} if seed is not None and info.masked else {}
    drawn = Sampling(
        tasks,
        samples or evaluating.SAMPLES,
        seed or 0,
        device or (evaluating.default_devices()[0] if sampled else "cpu"),
        evaluating.hub_options(),
    )
    repo = session.repository()
    with session.resources() as resources:
        done = verb(
            repo,
            revisions,
            name=name,
            method=how.name,
            options={**how.options, **masked},
            base=base,
            exact=how.exact,
            rank=rank,
            sampling=drawn,
            message=message,
            metadata=dict(metadata),
            dry_run=dry_run,
            signature=session.signature(message or f"merge {', '.join(revisions)}"),
            resources=resources,
        )
    session.emit(lambda: {"dry_run": dry_run, **merging.document(done)}, merging.lines(done))
