"""`dvx du`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

import deltavcs as dv
from dvx import options, text
from dvx.app import command
from dvx.exits import CONFLICT, INTEGRITY
from dvx.options import REVISION
from dvx.session import Session
from dvx.table import Column, table

if TYPE_CHECKING:
    from deltavcs.porcelain.du import Usage

_COLUMNS = (
    Column("name", least=16, colour="green", bold=True, middle=True),
    Column("id", colour="blue"),
    Column("own", right=True),
    Column("shared", right=True),
    Column("checkpoint", right=True),
    Column("own share", right=True, spare=True),
)


@command(
    examples=[("dvx du", "every commit, the most expensive first"), ("dvx du chat", "one")],
    statuses=(CONFLICT, INTEGRITY),
)
@click.argument("revision", required=False, type=REVISION, metavar="[REV]")
@click.option(
    "-n",
    "limit",
    type=click.IntRange(min=1),
    callback=options.bounded,
    default=20,
    metavar="N",
    show_default=True,
    help="At most N commits.",
)
def du(session: Session, revision: str | None, limit: int) -> None:
    """Show what commits cost: their own bytes, and those they share.

    'own' is stored for a commit alone, and what removing it would give back; 'shared' is used by others
    too; 'checkpoint' is the size of its files as they are checked out.
    """
    found = dv.du(session.repository(), revision)
    session.emit(
        lambda: {"commits": found.commits, "totals": found.totals},
        _lines(found, session.width, limit=limit, every=revision is None),
    )


def _lines(found: Usage, width: int | None, *, limit: int, every: bool) -> Iterator[str]:
    rows = [
        (
            text.plain(c.names or ""),
            text.short(c.commit),
            text.size(c.unique_bytes),
            text.size(c.shared_bytes),
            text.size(c.raw_bytes),
            text.percent(c.unique_bytes / c.raw_bytes if c.raw_bytes else None),
        )
        for c in found.commits[:limit]
    ]
    if rows:
        yield from table(_COLUMNS, rows, width=width)
    more = len(found.commits) - limit
    if more > 0:
        yield f"and {text.count(more, 'more commit')}; -n {len(found.commits)} lists them all"
    if every:
        yield from _totals(found)


def _totals(found: Usage) -> Iterator[str]:
    totals = found.totals
    line = f"{text.size(totals.pack_bytes)} in {text.count(totals.n_packs, 'pack')}"
    if found.commits:
        raw = sum(c.raw_bytes for c in found.commits)
        times = text.ratio(raw, totals.pack_bytes)
        line += f" hold {text.size(raw)} of {text.count(len(found.commits), 'checkpoint')}"
        line += f" ({times})" if times else ""
        yield ""
    yield line
    unused = totals.pack_bytes - totals.used_bytes
    if unused > 1 << 20 and unused > totals.pack_bytes // 20:
        yield f"{text.size(unused)} of that is used by no commit; see 'dvx gc --dry-run'"
