"""`dvx reflog`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

import deltavcs as dv
from dvx import options, text
from dvx.app import command
from dvx.options import REVISION
from dvx.session import Session
from dvx.table import Column, table

if TYPE_CHECKING:
    from deltavcs.porcelain.reflog import RefMove

_COLUMNS = (
    Column(least=16, colour="green", bold=True, middle=True),
    Column(dim=True),
    Column(),
    Column(colour="blue"),
    Column(dim=True, spare=True),
    Column(spare=True),
    Column(least=10),
)


@command(
    examples=[
        ("dvx reflog", "every name"),
        ("dvx reflog chat -n 5", "one of them"),
        ("dvx branch chat 3f2a9c81b2d4", "bring a deleted branch back, with the id from here"),
    ],
)
@click.argument("name", required=False, type=REVISION, metavar="[NAME]")
@options.limit(50)
def reflog(session: Session, name: str | None, limit: int) -> None:
    """Show how branches and tags moved, the last move first.

    Each line has the name, the commit before, the commit after, who moved it and why.
    """
    found = dv.reflog(session.repository(), name, limit=limit)
    session.emit(lambda: {"moves": [_document(e) for e in found]}, _lines(found, session.width))


def _document(entry: RefMove) -> dict[str, object]:
    return {
        "ref": entry.ref,
        "old": entry.old,
        "new": entry.new,
        "author": entry.author,
        "time": text.iso(entry.time),
        "message": entry.message,
    }


def _lines(found: Sequence[RefMove], width: int | None) -> Iterator[str]:
    if not found:
        yield "no moves yet"
        return
    rows = [
        (
            text.plain(e.ref.removeprefix("refs/heads/").removeprefix("refs/")),
            text.short(e.old) if e.old else "(new)",
            "→",
            text.short(e.new) if e.new else "(deleted)",
            text.when(e.time),
            text.clip(text.line(e.author.partition(" <")[0]), 30),
            text.line(e.message),
        )
        for e in found
    ]
    yield from table(_COLUMNS, rows, width=width)
