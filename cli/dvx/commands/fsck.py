"""`dvx fsck`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

import deltavcs as dv
from dvx import hints, options, text
from dvx.app import command
from dvx.exits import INTEGRITY
from dvx.session import Session

if TYPE_CHECKING:
    from deltavcs.porcelain.fsck import Fsck, Problem


@command(
    examples=[
        ("dvx fsck", "is everything there?"),
        ("dvx fsck --full", "and is every byte what it was?"),
        ("dvx fsck --json | jq .problems", "for scripts"),
    ],
    statuses=(INTEGRITY,),
)
@click.option("--full", is_flag=True, help="Also hash every pack, decode every blob and prove its id.")
@options.works
@click.pass_context
def fsck(ctx: click.Context, session: Session, full: bool) -> None:
    """Check that everything is there, and is what it says it is.

    Ends with status 12 if anything is wrong. Nothing is changed.
    """
    with session.working() as repo:
        found = dv.fsck(repo, full=full)
    session.emit(
        lambda: {
            "ok": not found.problems,
            "full": found.full,
            "problems": [{"kind": p.kind, "where": p.where, "detail": _detail(p)} for p in found.problems],
            "counts": found.counts,
        },
        _lines(found),
    )
    if found.problems:
        ctx.exit(INTEGRITY)


def _lines(found: Fsck) -> Iterator[str]:
    c = found.counts
    stored = f"{text.count(c.n_blobs, 'blob')} in {text.count(c.n_packs, 'pack')}"
    decoded = f"; decoded {text.size(c.n_bytes_decoded)}" if found.full else ""
    history = f"{text.count(c.n_refs, 'ref')}, {text.count(c.n_commits, 'commit')}"
    yield f"checked {history}, {text.count(c.n_objects, 'object')}, {stored}{decoded}"
    for problem in found.problems:
        label = click.style(problem.kind, fg="red")
        yield f"{label}: {text.plain(problem.where)}: {text.plain(_detail(problem))}"
    if found.problems:
        yield click.style(text.count(len(found.problems), "problem"), fg="red", bold=True)
    else:
        more = "" if found.full else "; --full also checks every byte"
        yield click.style("no problems", fg="green") + more


def _detail(problem: Problem) -> str:
    """What is wrong, and after a semicolon what would help."""
    if problem.advice is None:
        return problem.detail
    words = hints.BY_ADVICE[problem.advice].removesuffix(".")
    return f"{problem.detail}; {words[0].lower()}{words[1:]}"
