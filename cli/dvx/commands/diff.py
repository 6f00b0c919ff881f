"""`dvx diff`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

import deltavcs as dv
from dvx import options, reports, text
from dvx.app import command
from dvx.exits import INTEGRITY
from dvx.options import REVISION
from dvx.session import Session
from dvx.table import Column, table

if TYPE_CHECKING:
    from deltavcs.adapters.module_updates import ModuleDiff
    from deltavcs.porcelain.diff import Diff, TensorDiff

_MOST = 20
_NAMES = 5
_COLUMNS = (
    Column("tensor", least=30, middle=True),
    Column("dtype", spare=True),
    Column("shape", right=True, spare=True),
    Column("changed", right=True),
    Column("‖B-A‖", right=True),
    Column("‖B-A‖/‖A‖", right=True),
    Column("cos(A,B)", right=True, spare=True),
)

_MODULE_COLUMNS = (
    Column("module", least=30, middle=True),
    Column("B·A", right=True, spare=True),
    Column("ranks", right=True, spare=True),
    Column("‖Δ_A‖", right=True),
    Column("‖Δ_B‖", right=True),
    Column("‖Δ_B-Δ_A‖", right=True),
    Column("as part of ‖W‖", right=True, spare=True),
    Column("cos", right=True, spare=True),
)


@command(
    examples=[
        ("dvx diff v1 chat", "what fine-tuning changed"),
        ("dvx diff v1 v2 --stat", "in four lines"),
        ("dvx diff v2+chat 'v2 + 0.5 * (chat - v1)' -n 0", "expressions too; every tensor"),
    ],
    statuses=(INTEGRITY,),
)
@click.argument("a", type=REVISION)
@click.argument("b", type=REVISION)
@click.option("--stat", is_flag=True, help="Only the sums.")
@click.option(
    "-n", "limit", type=click.IntRange(min=0), default=_MOST, metavar="N", show_default=True,
    callback=options.bounded,
    help="At most N tensors, the largest movers first; 0 for all.",
)  # fmt: skip
@options.dequantized
@options.works
def diff(session: Session, a: str, b: str, stat: bool, limit: int, dequantize: bool) -> None:
    """Compare two checkpoints tensor by tensor.

    A and B are revisions or expressions. Per tensor: the share of its elements that differ in any bit,
    ‖B-A‖, that as a part of ‖A‖, and the cosine between A and B as vectors. The largest movers come first.

    LoRA adapters are compared by what they add to each weight, Δ = s·B·A, and never by their factors, which
    may be quite different and do the same.
    """
    with session.working() as repo:
        found = dv.diff(repo, a, b, dequantize=dequantize)
    session.emit(lambda: _document(found), _lines(found, session.width, stat=stat, limit=limit))


def _document(found: Diff) -> dict[str, object]:
    from dvx.output import jsonable

    return dict(jsonable(found))


def _lines(found: Diff, width: int | None, *, stat: bool, limit: int) -> Iterator[str]:
    moved = found.tensors
    if not stat and found.modules:
        rows = found.modules[:limit] if limit else found.modules
        yield from table(_MODULE_COLUMNS, [_module(m) for m in rows], width=width)
        if len(rows) < len(found.modules):
            yield f"and {text.count(len(found.modules) - len(rows), 'more module')}; -n 0 lists them all"
        yield ""
    if not stat and moved:
        shown = moved[:limit] if limit else moved
        yield from table(_COLUMNS, [_row(t) for t in shown], width=width)
        if len(shown) < len(moved):
            yield f"and {text.count(len(moved) - len(shown), 'more tensor')}; -n 0 lists them all"
        yield ""
    if found.names_differ:
        yield f"in B {found.names_differ}; tensors have the names of A"
    for line in _sums(found):
        yield from text.wrapped(line, width)
    if found.quantised:
        schemes = text.join(found.quantised)
        yield from text.wrapped(f"quantised, left out of norms and cosines: {schemes}", width)
    for noun, what, names in (
        ("tensor", "only in A", found.only_in_a),
        ("tensor", "only in B", found.only_in_b),
        ("file", "changed", found.files_changed),
        ("file", "only in A", found.files_only_in_a),
        ("file", "only in B", found.files_only_in_b),
    ):
        if names:
            yield f"{text.count(len(names), noun)} {what}: {text.join(names, _NAMES)}"


def _sums(found: Diff) -> Iterator[str]:
    if found.adapter_kinds and not found.modules:
        yield f"adapters of the types {' and '.join(found.adapter_kinds)}, compared tensor by tensor"
    elif any("DoRA" in told for told in found.adapter_kinds):
        yield "DoRA scales each weight after its product is added; the magnitudes are among the tensors"
    if found.modules:
        of = text.count(found.n_common, "module or tensor", "modules and tensors")
        yield f"{of} in both, {found.n_identical:,} the same"
        yield (
            f"‖Δ_B-Δ_A‖ {text.number(found.l2, 4)}, {text.percent(found.relative_l2)} of ‖Δ_A‖;"
            f" cos {text.number(found.cosine, 6)}"
        )
        return
    common = text.count(found.n_common, "tensor")
    if found.n_identical == found.n_common:
        yield f"{common} in both, all of them the same"
        return
    share = found.changed / found.elements if found.elements else None
    yield f"{common} in both, {found.n_identical:,} the same; {text.percent(share)} of the elements differ"
    yield (
        f"‖B-A‖ {text.number(found.l2, 4)}, {text.percent(found.relative_l2)} of ‖A‖;"
        f" cos(A,B) {text.number(found.cosine, 6)}"
    )


def _row(t: TensorDiff) -> tuple[str, ...]:
    name, shape = text.cell(t.name), reports.shape(t.shape)
    if t.other is not None:
        return (name, t.dtype, f"{shape} → {t.other}", "unlike", "-", "-", "-")
    share = t.changed / t.elements if t.changed is not None and t.elements else None
    return (
        name,
        t.dtype,
        shape,
        text.percent(share),
        text.number(t.l2),
        text.number(t.relative_l2),
        text.number(t.cosine, 6),
    )


def _module(m: ModuleDiff) -> tuple[str, ...]:
    part = m.l2 / m.weight_l2 if m.weight_l2 else None
    return (
        text.cell(m.module),
        reports.shape(m.shape),
        str(m.rank_a) if m.rank_a == m.rank_b else f"{m.rank_a} → {m.rank_b}",
        text.number(m.l2_a),
        text.number(m.l2_b),
        text.number(m.l2),
        text.percent(part),
        text.number(m.cosine, 6),
    )
