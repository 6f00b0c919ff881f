"""Tables: aligned columns that fit the terminal, and are whole in a pipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click

from dvx import text

_GAP = 2
_FLOOR = 12


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        title: empty for none.
        right: align right, as numbers are.
        least: columns it may be clipped to before others are left out, and further only after; 0 never
            clips.
        middle: clip in the middle, as suits tensor names.
        colour: of its cells.
        spare: leave the column out where the terminal is too narrow.
    """

    title: str = ""
    right: bool = False
    least: int = 0
    middle: bool = False
    colour: str | None = None
    bold: bool = False
    dim: bool = False
    spare: bool = False


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], *, width: int | None, indent: int = 0
) -> Iterator[str]:
    """Lines of a table, with a line of titles if a column has one; empty columns are left out.

    Args:
        rows: cells without escape sequences.
        width: of the terminal, or None for a pipe: then nothing is clipped.
    """
    kept = [i for i in range(len(columns)) if any(r[i] for r in rows)]
    widths = {i: max(text.width_of(columns[i].title), *(text.width_of(r[i]) for r in rows)) for i in kept}
    if width is not None:
        kept = _fit(columns, kept, widths, width - indent)
    if any(columns[i].title for i in kept):
        titles = [_cell(columns[i], columns[i].title, widths[i]) for i in kept]
        yield click.style((" " * indent + _join(titles)).rstrip(), dim=True)
    for row in rows:
        cells = [_styled(columns[i], _cell(columns[i], row[i], widths[i])) for i in kept]
        yield (" " * indent + _join(cells)).rstrip()


def _fit(columns: Sequence[Column], kept: list[int], widths: dict[int, int], room: int) -> list[int]:
    """Leave spare columns out, from the right, then clip the widest that may be clipped."""

    def over(columns_: list[int], sizes: dict[int, int]) -> int:
        return sum(sizes[i] for i in columns_) + _GAP * (len(columns_) - 1) - room

    least = {i: min(widths[i], columns[i].least) or widths[i] for i in kept}
    for i in reversed(kept):
        if columns[i].spare and over(kept, least) > 0:
            kept = [k for k in kept if k != i]
    if over(kept, least) > 0:
        least = {i: min(least[i], _FLOOR) if columns[i].least else least[i] for i in kept}
    while (excess := over(kept, widths)) > 0:
        wide = [i for i in kept if widths[i] > least[i]]
        if not wide:
            break
        i = max(wide, key=lambda k: widths[k])
        next_widest = max((widths[k] for k in wide if k != i), default=0)
        widths[i] = max(least[i], widths[i] - excess, min(next_widest, widths[i] - 1))
    return kept


def _cell(column: Column, value: str, width: int) -> str:
    value = text.clip(value, width, middle=column.middle)
    pad = " " * (width - text.width_of(value))
    return pad + value if column.right else value + pad


def _styled(column: Column, value: str) -> str:
    if not value.strip() or not (column.colour or column.bold or column.dim):
        return value
    stripped = value.rstrip()
    styled = click.style(stripped, fg=column.colour, bold=column.bold or None, dim=column.dim or None)
    return styled + " " * (len(value) - len(stripped))


def _join(cells: Sequence[str]) -> str:
    return (" " * _GAP).join(cells)
