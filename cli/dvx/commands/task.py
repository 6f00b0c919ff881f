"""`dvx task`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

import deltavcs as dv
from dvx import evaluating, reports, text
from dvx.app import command, group
from dvx.exits import CONFLICT, STORAGE
from dvx.session import Session
from dvx.table import Column, table

if TYPE_CHECKING:
    from deltavcs.porcelain.task import TaskInfo, TaskReport


@group(
    examples=[
        ("dvx task list", ""),
        (
            "dvx task add mine --file rows.jsonl",
            "rows with prompt and answer, or question, choices and label",
        ),
        ("dvx task show piqa", "three prompts as models see them"),
    ]
)
def task() -> None:
    """Define and look at tasks, which checkpoints are ranked on."""


@command(
    examples=[
        ("dvx task add mine --file rows.jsonl", ""),
        ("dvx task add mine --file rows.csv --prompt 'Q: {question}\\nA:' --answer '{reply}'", ""),
        ("dvx task add piqa --file piqa_train.jsonl", "a built-in task, with rows from a file"),
    ],
    statuses=(CONFLICT, STORAGE),
)
@click.argument("name", metavar="NAME")
@click.option(
    "--file", "file", required=True, type=click.Path(path_type=Path), metavar="PATH",
    help="Rows: .jsonl, .parquet, .csv, or a folder of them.",
)  # fmt: skip
@click.option("--prompt", metavar="TEXT", help="Template of the prompt; {column} stands for a column.")
@click.option("--answer", metavar="TEXT", help="Template of the answer.")
@click.option(
    "--numbering", type=click.Choice(["letters", "numbers"]), default="letters", show_default=True,
    help="How options are labelled.",
)  # fmt: skip
@click.option("--split", metavar="SPLIT", help="The split that the file holds.")
@click.option("--force", is_flag=True, help="Replace a task of that name.")
def add(
    session: Session,
    name: str,
    file: Path,
    prompt: str | None,
    answer: str | None,
    numbering: str,
    split: str | None,
    force: bool,
) -> None:
    """Define a task over rows of a file. All rows are read, and a bad one is refused with its line."""
    wording = dv.Wording(_unescaped(prompt), _unescaped(answer), numbering)
    done = dv.add_task(session.repository(), name, file, wording=wording, split=split, force=force)
    session.emit(lambda: _document(done), _report(done, every=False))


@command(examples=[("dvx task list", "")])
def list_(session: Session) -> None:
    """List tasks: the repository's own, then the built-in ones."""
    found = dv.list_tasks(session.repository())
    session.emit(lambda: {"tasks": found}, _table(found, session.width))


@command(examples=[("dvx task show piqa", "")], statuses=(STORAGE,))
@click.argument("name", metavar="NAME")
def show(session: Session, name: str) -> None:
    """Show a task's rows as prompts. Rows of a built-in task come from the Hub."""
    found = dv.task(session.repository(), name, hub=evaluating.hub_options())
    session.emit(lambda: _document(found), _report(found, every=True))


@command(examples=[("dvx task remove mine", "")], statuses=(CONFLICT,))
@click.argument("name", metavar="NAME")
def remove(session: Session, name: str) -> None:
    """Forget a task's definition; its scores stay."""
    dv.remove_task(session.repository(), name)
    session.emit(lambda: {"removed": name}, (f"removed {text.plain(name)}",))


def _unescaped(template: str | None) -> str | None:
    """What a template means by a backslash and an n, as shells keep them."""
    return None if template is None else template.replace("\\n", "\n")


def _document(found: TaskReport) -> dict[str, object]:
    from dvx.output import jsonable

    return dict(jsonable(found))


def _table(found: list[TaskInfo], width: int | None) -> Iterator[str]:
    columns = [
        Column("name", colour="green", bold=True),
        Column(""),
        Column("rows from", least=20, middle=True),
    ]
    rows = [(text.plain(t.name), "built in" if t.builtin else "own", text.plain(t.source)) for t in found]
    return table(columns, rows, width=width)


def _report(found: TaskReport, *, every: bool) -> Iterator[str]:
    split = f"{found.split} split" + (" (there is no training split)" if found.substituted else "")
    yield f"{reports.name(found.info.name)}: {text.count(found.n_rows, 'row')}, {split}"
    yield f"rows from {text.plain(found.info.source)}; fingerprint {found.fingerprint[:12]}"
    for example in found.examples if every else found.examples[:1]:
        yield ""
        for line in text.plain(example.plain_prompt).splitlines():
            yield f"    {line}"
        yield f"    → {text.plain(example.answer)}"
    if not every:
        yield reports.next_step(f"dvx rank --task {found.info.name}")


for _command in (add, list_, show, remove):
    task.add_command(_command)
