"""`dvx show`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

import deltavcs as dv
from dvx import reports, text
from dvx.app import command
from dvx.exits import INTEGRITY
from dvx.options import REVISION
from dvx.session import Session
from dvx.table import Column, table

if TYPE_CHECKING:
    from deltavcs.porcelain.show import Shown

_MODULES = (
    Column("module", least=30, middle=True),
    Column("B·A", right=True),
    Column("rank", right=True),
    Column("s", right=True, spare=True),
    Column("‖s·B·A‖", right=True),
)
_MOST_TENSORS = 10
_MOST_FILES = 8


@command(
    examples=[
        ("dvx show chat", "the tip of a branch"),
        ("dvx show --tensors run~2", "with every tensor"),
        ("dvx show chat --json | jq .changed_share", "for scripts"),
    ],
    statuses=(INTEGRITY,),
)
@click.argument("revision", type=REVISION, metavar="REV")
@click.option("--tensors", is_flag=True, help="List every tensor, not only the largest movers.")
def show(session: Session, revision: str, tensors: bool) -> None:
    """Show one commit: its parents, its contents, its change.

    Of the tensors those are listed that moved most, as ‖Δ‖; --tensors lists all of them. Of a LoRA adapter
    it tells what is added to each weight: s·B·A, by its norm.

    A commit's kind is base, finetune, adapter, transfer or merge. The role of a parent is base, previous,
    delta, source, input or init, or what --parent said. The codec of a tensor, how it is stored, is raw,
    plain, xor, exp, delta or derived.
    """
    shown = dv.show(session.repository(), revision)
    session.emit(lambda: _document(shown), _lines(shown, session.width, every=tensors))


def _document(shown: Shown) -> dict[str, object]:
    from dvx.output import jsonable

    return dict(jsonable(shown))


def _lines(shown: Shown, width: int | None, *, every: bool) -> Iterator[str]:
    names = text.plain(", ".join(shown.names))
    yield (f"{reports.name(names)}  " if names else "") + click.style(shown.commit, fg="blue")
    yield from reports.pairs(_facts(shown))
    if shown.message:
        yield ""
        for line in text.plain(shown.message).strip().splitlines():
            yield f"    {line}"
    if shown.scores:
        yield ""
        yield from reports.score_table(shown.scores, width=width)
    yield ""
    yield from _modules(shown, width, every=every)
    yield from _tensors(shown, width, every=every)
    yield from _files(shown)


def _facts(shown: Shown) -> dict[str, str]:
    raw, stored = shown.raw_bytes, shown.stored_bytes
    notes = ", ".join(n for n in (text.percent(stored / raw) if raw else "", text.ratio(raw, stored)) if n)
    changed = ""
    if shown.changed_share is not None:
        changed = f"{text.percent(shown.changed_share)} of the weights, ‖Δ‖ {text.number(shown.l2, 4)}"
    elif shown.modules:
        changed = f"{text.count(len(shown.modules), 'weight')} by products, ‖Δ‖ {text.number(shown.l2, 4)}"
    parents = [f"{p.role} {reports.name(p.name)} {reports.commit_id(p.commit)}" for p in shown.parents]
    return {
        "kind": f"{shown.kind}, {text.plain(shown.adapter_type)}" if shown.adapter_type else shown.kind,
        "date": text.when(shown.time),
        "author": text.plain(shown.author),
        "parents": "\n".join(parents),
        "recipe": text.plain(shown.recipe or ""),
        "task": text.plain(shown.task or ""),
        "source": text.plain(str(shown.source.get("path") or shown.source.get("url") or _origin(shown))),
        "metadata": "\n".join(f"{text.plain(k)}={text.line(v)}" for k, v in sorted(shown.metadata.items())),
        "size": f"{text.size(raw)} in {text.count(shown.n_files, 'file')}, {_stored(stored, notes)}",
        "changed": changed,
    }


def _stored(stored: int, notes: str) -> str:
    return f"stored in {text.size(stored)} ({notes})"


def _origin(shown: Shown) -> str:
    return ", ".join(f"{k} {v}" for k, v in sorted(shown.source.items()) if isinstance(v, str | int))


def _modules(shown: Shown, width: int | None, *, every: bool) -> Iterator[str]:
    """What an adapter adds to each weight; the largest first."""
    if not shown.modules:
        return
    modules = sorted(shown.modules, key=lambda m: (-(m.l2 or 0.0), m.module))
    rows = modules if every else modules[:_MOST_TENSORS]
    cells = [
        (text.cell(m.module), reports.shape(m.shape), str(m.rank), text.number(m.scale), text.number(m.l2))
        for m in rows
    ]
    yield from table(_MODULES, cells, width=width, indent=2)
    if len(rows) < len(modules):
        yield f"  and {text.count(len(modules) - len(rows), 'more module')}; --tensors lists them all"
    if any(m.scaled for m in modules):
        yield "  DoRA scales each weight after its product is added"
    yield ""


def _tensors(shown: Shown, width: int | None, *, every: bool) -> Iterator[str]:
    tensors = list(shown.tensors)
    if not every:
        tensors.sort(key=lambda t: (-(t.l2 or 0.0), -t.raw_bytes, t.name))
        tensors = tensors[:_MOST_TENSORS]
    yield from reports.tensor_table(tensors, width=width)
    more = len(shown.tensors) - len(tensors)
    if more:
        yield f"  and {text.count(more, 'more tensor')}; --tensors lists them all"


def _files(shown: Shown) -> Iterator[str]:
    yield ""
    for file in shown.files[:_MOST_FILES]:
        holds = f", {text.count(file.n_tensors, 'tensor')}" if file.n_tensors is not None else ""
        yield f"  {text.plain(file.path)} ({text.size(file.size)}{holds})"
    if len(shown.files) > _MOST_FILES:
        yield f"  and {text.count(len(shown.files) - _MOST_FILES, 'more file')}; see 'dvx ls REV'"
