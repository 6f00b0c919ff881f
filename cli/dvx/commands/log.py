"""`dvx log`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import click

import deltavcs as dv
from dvx import options, reports, terminal, text
from dvx.app import command
from dvx.exits import INTEGRITY
from dvx.graph import Node, draw
from dvx.options import REVISION
from dvx.session import Session
from dvx.table import Column, table

if TYPE_CHECKING:
    from deltavcs.porcelain.log import LogEntry

_COLUMNS = (
    Column(least=16, colour="green", bold=True, middle=True),
    Column(colour="blue"),
    Column(),
    Column(dim=True, spare=True),
    Column(colour="yellow", spare=True),
    Column(least=10),
)
_LEAST_TEXT = 30


@command(
    examples=[
        ("dvx log", "every branch, newest first"),
        ("dvx log --graph", "with the lines from each commit to its parents"),
        ("dvx log -n 5 chat", "the last five of one branch, with what it was made of"),
        ("dvx log --json | jq -r '.commits[].commit'", "for scripts"),
    ],
    statuses=(INTEGRITY,),
)
@click.argument("revision", required=False, type=REVISION, metavar="[REV]")
@options.limit()
@click.option("-g", "--graph", is_flag=True, help="Draw the lines to the parents.")
def log(session: Session, revision: str | None, limit: int | None, graph: bool) -> None:
    """Show history, newest first.

    Without REV the history of all branches and tags. Each line has names, id, kind, date, scores and
    message. A commit that has no name of its own is called by its place in a run, such as run~2.
    """
    entries = dv.log(session.repository(), revision, limit=limit, graph=graph)
    session.emit(
        lambda: {"commits": [_document(e) for e in entries]},
        _graph(entries, session.width) if graph else _lines(entries, session.width),
    )


def _document(entry: LogEntry) -> dict[str, object]:
    return {
        "commit": entry.commit,
        "kind": entry.kind,
        "names": entry.names,
        "message": entry.message,
        "author": entry.author,
        "time": text.iso(entry.time),
        "task": entry.task,
        "parents": [{"commit": commit, "role": role} for commit, role in entry.parents],
        "scores": entry.scores,
    }


def _lines(entries: Sequence[LogEntry], width: int | None) -> Iterator[str]:
    if not entries:
        yield from _empty()
        return
    labels = _labels(entries)
    rows = [
        (
            labels.get(e.commit, ""),
            e.short,
            e.kind,
            text.when(e.time),
            reports.score_cell(e.scores),
            text.line(e.message),
        )
        for e in entries
    ]
    yield from table(_COLUMNS, rows, width=width)


def _graph(entries: Sequence[LogEntry], width: int | None) -> Iterator[str]:
    if not entries:
        yield from _empty()
        return
    labels = _labels(entries)
    by_key: dict[str, LogEntry] = {e.commit: e for e in entries}
    nodes = (Node(e.commit, _drawn_parents(e, by_key), e.kind == "base", e.commit) for e in entries)
    for lines, key in draw(nodes, ascii_only=not terminal.shows_lines(sys.stdout)):
        if not key:
            yield lines
            continue
        room = None if width is None else max(_LEAST_TEXT, width - len(lines) - 2)
        yield f"{lines}  {_beside(by_key[key], labels, room)}"


def _beside(entry: LogEntry, labels: dict[str, str], room: int | None) -> str:
    """What stands beside a commit in the graph; the message gives way on narrow terminals."""
    label = labels.get(entry.commit, "")
    parts = [p for p in (label, entry.short, entry.kind, reports.score_cell(entry.scores)) if p]
    message = text.line(entry.message)
    if room is not None:
        message = text.clip(message, max(0, room - sum(text.width_of(p) + 2 for p in parts)))
    styled = [click.style(label, fg="green", bold=True)] if label else []
    styled.append(click.style(entry.short, fg="blue"))
    styled.append(entry.kind)
    if score := reports.score_cell(entry.scores):
        styled.append(click.style(score, fg="yellow"))
    return "  ".join([*styled, message] if message else styled)


def _drawn_parents(entry: LogEntry, entries: Mapping[str, LogEntry]) -> list[str]:
    """Parents that get a line: not those that another line leads to, as it would say nothing new.

    The source of a transfer is the base of its delta, and a run has one base, not one per checkpoint.
    """
    roles = {role for _, role in entry.parents}
    previous = next((entries.get(commit) for commit, role in entry.parents if role == "previous"), None)
    implied = {p for p in previous.parents if p[1] == "base"} if previous is not None else set()
    drawn = [
        (commit, role)
        for commit, role in entry.parents
        if not (role == "source" and "delta" in roles) and (commit, role) not in implied
    ]
    order = {"previous": 0, "base": 1}
    return [commit for commit, _ in sorted(drawn, key=lambda p: order.get(p[1], 2))]


def _labels(entries: Sequence[LogEntry]) -> dict[str, str]:
    """Names of commits: branches and tags, or the place in a run, `run~2`, which is a revision too."""
    labels: dict[str, str] = {}
    runs: dict[str, tuple[str, int]] = {}
    for entry in entries:
        if entry.names:
            labels[entry.commit] = text.plain(", ".join(entry.names))
            runs[entry.commit] = (entry.names[0].removeprefix("tag: "), 0)
        elif entry.commit in runs:
            name, steps = runs[entry.commit]
            labels[entry.commit] = f"{text.plain(name)}~{steps}"
        previous = next((c for c, role in entry.parents if role == "previous"), None)
        if previous is not None and entry.commit in runs:
            name, steps = runs[entry.commit]
            runs.setdefault(previous, (name, steps + 1))
    return labels


def _empty() -> Iterator[str]:
    yield "no commits yet"
    yield reports.next_step("dvx import DIR --as NAME", "begin with a base model")
