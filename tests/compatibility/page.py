"""`docs/compatibility.md`: a line for each kind, a column for each operation."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import adapter_kinds
import checkpoint_kinds
from cells import NONE, OPERATIONS, RIGHT, Cell, cells_of, quiet
from kind import Kind

LIBRARIES = ("torch", "transformers", "peft", "diffusers", "bitsandbytes", "safetensors")

_TOP = """# What works with which checkpoints

<!-- Written by docs/gen_compatibility.py; do not edit. -->

Every kind of checkpoint below is made by the library that owns it, small, and goes through every operation. **✓** means
that the result was compared with what that library makes of the same files and is equal; a number leads to the reason of
a refusal. Nothing else can stand in a cell: a result that differs, or any other end, fails the tests, which run the same
code (`make test`). To write this page again: `python docs/gen_compatibility.py`.

What ✓ was held against:

| operation | what is done | compared with |
|---|---|---|
| import | the base and its next version | see checkout |
| commit | two fine-tunes, or adapters, against the base | see checkout |
| checkout | everything | SHA-256 of every file; for pickles of the files beside the weights |
| fold | the adapter into its base | PEFT's `merge_and_unload`, to 1e-6 of a tensor's largest value |
| transfer | the fine-tune onto the next version; an adapter's factors are attached to it | `m_t + (m'_s − m_s)` in float64 over the weights as transformers loads them, rounded once, bit for bit; an adapter's factors bit for bit |
| merge | the average of the two fine-tunes | the mean in float64 over the weights as transformers loads them, bit for bit; for adapters of the factors in their files |
| rank | loss on twelve rows | the loss of a fresh `from_pretrained`, to 1e-6 |
| load_model | the fine-tune | `from_pretrained` of its files, bit for bit |
"""


def all_kinds() -> list[tuple[str, list[Kind]]]:
    """The kinds by the page's sections."""
    return [
        ("Whole checkpoints", checkpoint_kinds.kinds()),
        ("Adapters", adapter_kinds.kinds()),
    ]


def run(kind: Kind) -> dict[str, Cell]:
    """Every operation on a kind."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        (Path(folder) / "files").mkdir()
        return cells_of(kind, Path(folder))


def row(kind: Kind, cells: dict[str, Cell], reasons: list[str]) -> str:
    """A line of the table; new reasons are added to `reasons`."""
    return f"| {kind.name} | {' | '.join(_shown(cells[name], reasons) for name in OPERATIONS)} |"


def _shown(cell: Cell, reasons: list[str]) -> str:
    if cell.outcome == RIGHT:
        return "✓"
    if cell.outcome == NONE:
        return "–"
    if cell.outcome not in reasons:
        reasons.append(cell.outcome)
    return f"[{reasons.index(cell.outcome) + 1}](#why)"


def page(outcomes: Iterable[tuple[str, list[tuple[Kind, dict[str, Cell]]]]]) -> str:
    """The whole page."""
    reasons: list[str] = []
    parts = [_TOP, "Library versions: " + ", ".join(f"{n} {_release(n)}" for n in LIBRARIES) + ".\n"]
    for title, rows in outcomes:
        head = f"| | {' | '.join(OPERATIONS)} |\n|---|{':-:|' * len(OPERATIONS)}"
        lines = [row(kind, cells, reasons) for kind, cells in rows]
        parts.append(f"## {title}\n\n{head}\n" + "\n".join(lines) + "\n")
    parts.append("## Why\n\n" + "\n".join(f"{n}. {text}" for n, text in enumerate(reasons, 1)) + "\n")
    return "\n".join(parts)


def _release(name: str) -> str:
    """The version without its build."""
    return re.sub(r"\+.*", "", version(name))
