"""Lines that several commands print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from dvx import text
from dvx.table import Column, table

if TYPE_CHECKING:
    from deltavcs.steps.contents import ShownTensor
    from deltavcs.steps.recording import Recorded
    from deltavcs.steps.scorebook import ScoreLine


def name(value: str) -> str:
    """A branch's or revision's name, as it looks everywhere."""
    return click.style(text.plain(value), fg="green", bold=True)


def commit_id(value: str | None) -> str:
    """The beginning of a commit's id, as it looks everywhere."""
    return click.style(text.short(value), fg="blue")


def next_step(line: str, why: str = "") -> str:
    """A command to go on with."""
    return click.style("next: ", dim=True) + line + (click.style(f"   # {why}", dim=True) if why else "")


def recorded_document(recorded: Recorded) -> dict[str, Any]:
    """The fields of a new commit, for JSON."""
    return {
        "commit": recorded.commit,
        "name": recorded.name,
        "kind": recorded.kind,
        "base": recorded.base,
        "n_tensors": recorded.n_tensors,
        "raw_bytes": recorded.raw_bytes,
        "stored_bytes": recorded.stored_bytes,
        "unchanged": recorded.unchanged,
        "nonfinite": recorded.nonfinite,
    }


def stored_line(recorded: Recorded) -> str:
    """How much a commit added: `stored 12.3 KiB of 1.0 MiB (1.2%, 83 times smaller), 47 tensors`."""
    raw, stored = recorded.raw_bytes, recorded.stored_bytes
    share = text.percent(stored / raw) if raw else ""
    notes = ", ".join(n for n in (share, text.ratio(raw, stored)) if n)
    tensors = text.count(recorded.n_tensors, "tensor")
    return f"stored {text.size(stored)} of {text.size(raw)} ({notes}), {tensors}"


def dequantised_lines(dequantised: Mapping[str, str]) -> Iterator[str]:
    """What was computed with its weights instead of what is stored."""
    for name, scheme in dequantised.items():
        yield f"dequantized: {text.plain(name)} ({text.plain(scheme)})"


WARNING = click.style("warning:", fg="yellow")


def nonfinite_lines(recorded: Recorded, limit: int = 3) -> Iterator[str]:
    """A warning about NaN and Inf."""
    if recorded.nonfinite:
        shown = text.join(recorded.nonfinite[:limit]) + (", …" if len(recorded.nonfinite) > limit else "")
        yield f"{WARNING} NaN or Inf in {text.count(len(recorded.nonfinite), 'tensor')}: {shown}"


def unchanged_lines(recorded: Recorded) -> Iterator[str]:
    """Nothing was committed, and why."""
    yield f"{name(recorded.name)} {commit_id(recorded.commit)} has this content already; nothing to commit"


def score_cell(scores: Sequence[ScoreLine], limit: int = 2) -> str:
    """Scores in a line: `piqa 0.512`, the first of each task."""
    first: dict[str, ScoreLine] = {}
    for score in scores:
        first.setdefault(score.task, score)
    shown = ", ".join(f"{text.plain(s.task)} {s.loss:.3f}" for s in list(first.values())[:limit])
    return shown + (", …" if len(first) > limit else "")


def score_table(scores: Sequence[ScoreLine], *, width: int | None, indent: int = 2) -> Iterator[str]:
    """Scores, a row each; tasks that were asked in several versions with the one that was."""
    versions: dict[str, set[str]] = {}
    for s in scores:
        versions.setdefault(s.task, set()).add(s.fingerprint)
    columns = [Column("task"), Column("loss", right=True), Column("accuracy", right=True)]
    columns += [
        Column("samples", right=True),
        Column("split", spare=True),
        Column("seed", right=True, spare=True),
    ]
    columns += [Column("dtype", spare=True), Column("version", spare=True)]
    rows = [
        (
            text.plain(s.task),
            text.number(s.loss, 4),
            text.number(s.accuracy, 3),
            f"{s.samples:,}",
            text.plain(s.split),
            str(s.seed),
            s.dtype,
            text.short(s.fingerprint) if len(versions[s.task]) > 1 else "",
        )
        for s in scores
    ]
    return table(columns, rows, width=width, indent=indent)


def tensor_table(
    tensors: Sequence[ShownTensor], *, width: int | None, indent: int = 2, codec: bool = True
) -> Iterator[str]:
    """Tensors: what they are, what they cost, how far they moved."""
    columns = [
        Column("tensor", least=34, middle=True),
        Column("dtype", spare=True),
        Column("shape", right=True),
        Column("size", right=True),
        Column("stored", right=True),
        Column("codec" if codec else "", spare=True),
        Column("changed", right=True, spare=True),
        Column("‖Δ‖", right=True, spare=True),
    ]
    rows = [_tensor_row(t, codec=codec) for t in tensors]
    moved = any(t.changed_share is not None for t in tensors)
    if not moved:
        rows = [(*row[:6], "", "") for row in rows]
    return table(columns, rows, width=width, indent=indent)


def _tensor_row(t: ShownTensor, *, codec: bool) -> tuple[str, ...]:
    return (
        text.cell(t.name),
        t.dtype,
        shape(t.shape),
        text.size(t.raw_bytes),
        text.size(t.stored_bytes) if t.stored_bytes is not None else "missing",
        (t.codec or "-") if codec else "",
        text.percent(t.changed_share),
        text.number(t.l2),
    )


def shape(dimensions: Sequence[int]) -> str:
    """`[512, 64]`; `[]` is a scalar."""
    return str(list(dimensions))


def pairs(values: Mapping[str, str], *, indent: int = 0) -> Iterator[str]:
    """`key: value` lines with the values aligned; empty values are left out."""
    shown = {k: v for k, v in values.items() if v}
    wide = max((len(k) for k in shown), default=0)
    for key, value in shown.items():
        first, *rest = value.splitlines() or [""]
        yield " " * indent + click.style(f"{key:<{wide}}", dim=True) + f"  {first}"
        for more in rest:
            yield " " * (indent + wide + 2) + more
