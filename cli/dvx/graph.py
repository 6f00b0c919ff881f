"""History as a graph of text: a lane per line of development, newest at the top.

Each commit stands in one lane. The line from a child to its parent either goes straight down, opens a
lane, or ends in the lane where another child has the parent waiting already:

    ○ v2+chat
    ├─╮
    │ │ ○ other
    │ ○ │ chat
    │ ╰─┤
    ◆   │ v2
        ◆ v1
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
_LINES = {
    0: " ", _UP: "╵", _DOWN: "╷", _LEFT: "╴", _RIGHT: "╶",
    _UP | _DOWN: "│", _LEFT | _RIGHT: "─",
    _UP | _LEFT: "╯", _UP | _RIGHT: "╰", _DOWN | _LEFT: "╮", _DOWN | _RIGHT: "╭",
    _UP | _DOWN | _LEFT: "┤", _UP | _DOWN | _RIGHT: "├",
    _LEFT | _RIGHT | _UP: "┴", _LEFT | _RIGHT | _DOWN: "┬", _UP | _DOWN | _LEFT | _RIGHT: "┼",
}  # fmt: skip
_ASCII = {"│": "|", "─": "-", "╯": "'", "╰": "`", "╮": ".", "╭": ".", " ": " ", "○": "o", "◆": "*"}


@dataclass(frozen=True, slots=True)
class Node:
    """A commit to draw.

    Attributes:
        parents: in order; the first goes on in the commit's own lane.
        root: drawn as a base.
        text: what stands beside it.
    """

    key: str
    parents: Sequence[str]
    root: bool
    text: str


def draw(nodes: Iterable[Node], *, ascii_only: bool = False) -> Iterator[tuple[str, str]]:
    """Yield pairs of graph and text, a row each. Children should come before their parents."""
    lanes: list[str | None] = []
    for node in nodes:
        at = _lane_of(lanes, node.key)
        yield _render(_node_row(lanes, at, node), ascii_only), node.text
        links = _link(lanes, at, list(dict.fromkeys(node.parents)))
        if links is not None:
            yield _render(links, ascii_only), ""
        while lanes and lanes[-1] is None:
            lanes.pop()


def _lane_of(lanes: list[str | None], key: str) -> int:
    """The lane where a commit waits, or a free one."""
    if key in lanes:
        return lanes.index(key)
    at = lanes.index(None) if None in lanes else len(lanes)
    if at == len(lanes):
        lanes.append(None)
    lanes[at] = key
    return at


def _node_row(lanes: Sequence[str | None], at: int, node: Node) -> str:
    symbols = ["│" if lane is not None else " " for lane in lanes]
    symbols[at] = "◆" if node.root else "○"
    return " ".join(symbols).rstrip()


def _link(lanes: list[str | None], at: int, parents: Sequence[str]) -> str | None:
    """Give each parent a lane; the row of lines that leads there, or None if it would be straight."""
    before = [lane is not None for lane in lanes]
    lanes[at] = None
    ends = [lanes.index(p) for p in parents if p in lanes]
    for parent in (p for p in parents if p not in lanes):
        free = at if lanes[at] is None else next((i for i, x in enumerate(lanes) if x is None), len(lanes))
        if free == len(lanes):
            lanes.append(None)
        lanes[free] = parent
        ends.append(free)
    if not [end for end in ends if end != at]:
        return None
    return _link_row(lanes, before, at, ends)


def _link_row(lanes: Sequence[str | None], before: Sequence[bool], at: int, ends: Sequence[int]) -> str:
    cells = [_UP | _DOWN if i < len(before) and before[i] and i != at else 0 for i in range(len(lanes))]
    cells[at] = _UP | (_DOWN if lanes[at] is not None else 0)
    low, high = min(*ends, at), max(*ends, at)
    for end in {*ends} - {at}:
        cells[end] |= _DOWN | (_LEFT if end > at else _RIGHT)
        cells[at] |= _RIGHT if end > at else _LEFT
    for i in range(low + 1, high):
        joined = i in ends or i == at
        if joined or not cells[i]:
            cells[i] |= _LEFT | _RIGHT
    row = ""
    for i, cell in enumerate(cells):
        row += _LINES[cell] + ("─" if low <= i < high else " ")
    return row.rstrip()


def _render(row: str, ascii_only: bool) -> str:
    return "".join(_ASCII.get(c, "+") for c in row) if ascii_only else row
