"""Lines about branches and tags."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dvx import reports, text
from dvx.table import Column, table

if TYPE_CHECKING:
    from deltavcs.steps.refnames import Ref

_COLUMNS = (
    Column(least=16, colour="green", bold=True, middle=True),
    Column(dim=True),
    Column(colour="blue"),
    Column(),
    Column(dim=True, spare=True),
    Column(least=10),
)


def lines(refs: Sequence[Ref], width: int | None, *, nothing: str = "there are none") -> Iterator[str]:
    """Refs as a table; tags are marked where both kinds may stand."""
    if not refs:
        yield nothing
        return
    mixed = len({r.kind for r in refs}) > 1
    rows = [
        (
            text.plain(r.name),
            r.kind if mixed else "",
            text.short(r.commit),
            r.commit_kind or "damaged",
            text.when(r.time) if r.time is not None else "-",
            text.line(r.message),
        )
        for r in refs
    ]
    yield from table(_COLUMNS, rows, width=width)


def done(word: str, ref: Ref) -> Iterator[str]:
    """`made branch best at 3f2a…`."""
    at = f" at {reports.commit_id(ref.commit)}" if ref.commit is not None else ", which was broken"
    yield f"{word} {ref.kind} {reports.name(ref.name)}{at}"
    if word == "deleted" and ref.commit is not None:
        yield reports.next_step(f"dvx {ref.kind} {ref.name} {text.short(ref.commit)}", "brings it back")
