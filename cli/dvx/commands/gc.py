"""`dvx gc`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

import deltavcs as dv
from dvx import text
from dvx.app import command
from dvx.exits import CONFLICT, INTEGRITY, STORAGE
from dvx.options import AGE
from dvx.session import Session

if TYPE_CHECKING:
    from deltavcs.maintenance.collect import GcPlan


@command(
    examples=[
        ("dvx gc --dry-run", "what would go?"),
        ("dvx gc", "remove it"),
        ("dvx gc --prune now", "also what was deleted a moment ago"),
    ],
    statuses=(CONFLICT, INTEGRITY, STORAGE),
)
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@click.option(
    "--prune",
    "--older-than",
    "grace",
    type=AGE,
    default="14d",
    show_default=True,
    metavar="AGE",
    help="Keep commits that lost their name less than AGE ago, such as 3d or 12h; 'now' keeps none.",
)
def gc(session: Session, dry_run: bool, grace: float) -> None:
    """Remove what no branch, tag or score has reached for two weeks.

    A commit that lost its last name stays until then: 'dvx reflog' shows it, 'dvx branch NAME ID' brings it
    back.
    """
    repo = session.repository()
    plan = dv.plan_gc(repo, grace_days=grace) if dry_run else dv.gc(repo, grace_days=grace)
    session.emit(lambda: {"dry_run": dry_run, **_document(plan)}, _lines(plan, dry_run=dry_run))


def _document(plan: GcPlan) -> dict[str, object]:
    return {
        "packs": plan.packs,
        "objects": plan.objects,
        "indexes": plan.indexes,
        "n_bytes": plan.n_bytes,
        "n_idle_bytes": plan.n_idle_bytes,
    }


def _lines(plan: GcPlan, *, dry_run: bool) -> Iterator[str]:
    word = "would remove" if dry_run else "removed"
    if not (plan.packs or plan.objects or plan.indexes):
        yield "nothing to remove"
    else:
        parts = [text.count(len(plan.packs), "pack"), text.count(len(plan.objects), "object")]
        if plan.indexes:
            parts.append(text.count(len(plan.indexes), "pack index", "pack indexes"))
        yield f"{word} {', '.join(parts)}: {text.size(plan.n_bytes)}"
    if plan.n_idle_bytes:
        yield f"{text.size(plan.n_idle_bytes)} more is unused, in packs that are partly in use and stay"
