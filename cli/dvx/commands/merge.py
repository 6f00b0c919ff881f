"""`dvx merge`."""

from __future__ import annotations

import click

from dvx import evaluating, merging, options
from dvx.app import command
from dvx.exits import CONFLICT, INTEGRITY, STORAGE
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
@evaluating.sampling
@click.option("--device", metavar="DEV", help="fisher, regmean: where the models run.")
@click.option("--as", "name", required=True, metavar="NAME", help="The branch.")
@click.option("-n", "--dry-run", is_flag=True, help="Plan, and commit nothing.")
@options.message
@options.metadata
@options.works
def merge(
    session: Session,
    revisions: tuple[str, ...],
    method: str,
    exact: bool,
    weights: tuple[float, ...] | None,
    density: tuple[float, ...] | None,
    mask_seed: int | None,
    scale: float | None,
    t: float | None,
    floor: float | None,
    alpha: float | None,
    ridge: float | None,
    base: str | None,
    rank: int | None,
    tasks: tuple[str, ...],
    samples: int,
    seed: int,
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

    repo = session.repository()
    place = device or (evaluating.default_devices()[0] if method in ("fisher", "regmean") else "cpu")
    with session.resources() as resources:
        done = verb(
            repo,
            revisions,
            name=name,
            method=method.replace("-", "_"),
            options=merging.collect(
                weights, density, mask_seed, scale=scale, t=t, floor=floor, alpha=alpha, ridge=ridge
            ),
            base=base,
            exact=exact,
            rank=rank,
            sampling=Sampling(tasks, samples, seed, place, evaluating.hub_options()),
            message=message,
            metadata=dict(metadata),
            dry_run=dry_run,
            signature=session.signature(message or f"merge {', '.join(revisions)}"),
            resources=resources,
        )
    session.emit(lambda: {"dry_run": dry_run, **merging.document(done)}, merging.lines(done))
