"""`dvx lineage`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

import deltavcs as dv
from dvx import reports, terminal, text
from dvx.app import command
from dvx.exits import INTEGRITY
from dvx.options import REVISION
from dvx.session import Session

if TYPE_CHECKING:
    from deltavcs.porcelain.lineage import Lineage, LineageNode

_UNICODE = ("├─ ", "╰─ ", "│  ", "   ")
_ASCII = ("+- ", "`- ", "|  ", "   ")


@command(
    examples=[
        ("dvx lineage v2+chat", "what it was made of"),
        ("dvx lineage v1 --down", "everything that was made of it"),
        ("dvx lineage run --full", "every checkpoint of the run too"),
    ],
    statuses=(INTEGRITY,),
)
@click.argument("revision", type=REVISION, metavar="REV")
@click.option("--up", "direction", flag_value="up", default="up", help="What it was made of (the default).")
@click.option("--down", "direction", flag_value="down", help="What was made of it.")
@click.option("--full", is_flag=True, help="With the earlier commits of each run.")
def lineage(session: Session, revision: str, direction: str, full: bool) -> None:
    """Show what a checkpoint was made of, or what was made of it.

    It is drawn as a tree. The word before each commit is its part: the base, the delta that was carried
    over, the previous checkpoint of the run. A commit that appears twice is written out once.
    """
    found = dv.lineage(session.repository(), revision, direction=direction, full=full)
    session.emit(lambda: _document(found), _lines(found))


def _document(found: Lineage) -> dict[str, object]:
    from dvx.output import jsonable

    return dict(jsonable(found))


def _lines(found: Lineage) -> Iterator[str]:
    nodes: dict[str, LineageNode] = {n.commit: n for n in found.nodes}
    below: dict[str, list[tuple[str, str]]] = {}
    with_delta = {edge.child for edge in found.edges if edge.role == "delta"}
    for edge in found.edges:
        if edge.role == "source" and edge.child in with_delta:
            continue  # the base of the delta, which has a line of its own
        above, under = (edge.child, edge.parent) if found.direction == "up" else (edge.parent, edge.child)
        below.setdefault(above, []).append((under, edge.role))
    marks = _UNICODE if terminal.shows_lines(sys.stdout) else _ASCII
    seen: set[str] = set()
    # Without recursion: runs are hundreds of commits long.
    todo: list[tuple[str, str, str, str]] = [(found.root, "", "", "")]
    while todo:
        commit, role, lead, indent = todo.pop()
        again = commit in seen and bool(below.get(commit))
        yield lead + _line(nodes[commit], role) + (click.style("  (see above)", dim=True) if again else "")
        if commit in seen:
            continue
        seen.add(commit)
        children = below.get(commit, [])
        for i, (child, part) in reversed(list(enumerate(children))):
            last = i == len(children) - 1
            tip, trunk = (marks[1], marks[3]) if last else (marks[0], marks[2])
            todo.append((child, part, indent + tip, indent + trunk))
    if not found.edges:
        yield "nothing was made of it yet" if found.direction == "down" else "it has no parents"
    if found.n_previous:
        yield f"{text.count(found.n_previous, 'step')} within runs left out; --full shows them"


def _line(node: LineageNode, role: str) -> str:
    label = reports.name(", ".join(node.names)) + " " if node.names else ""
    parts = [
        click.style(f"{role}: ", dim=True) if role else "",
        label,
        reports.commit_id(node.commit),
        f" {node.kind}",
    ]
    if score := reports.score_cell(node.scores):
        parts.append("  " + click.style(score, fg="yellow"))
    if message := text.line(node.message):
        parts.append(f"  {text.clip(message, 60)}")
    return "".join(parts)
