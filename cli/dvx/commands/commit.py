"""`dvx commit`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

import deltavcs as dv
from dvx import findings, options, reports, text
from dvx.app import command
from dvx.exits import CONFLICT, INTEGRITY, STORAGE
from dvx.options import REVISION
from dvx.session import Session

if TYPE_CHECKING:
    from deltavcs.porcelain.commit import Committed
    from deltavcs.steps.bases import Base


@command(
    examples=[
        ('dvx commit ./chat --base llama3.0 -m "instruction tuning"', "a fine-tune of llama3.0"),
        ("dvx commit ./run/checkpoint-500 --as run", "the base is found; 'run' grows by a commit"),
        ("dvx commit ./lora --base llama3.0 --as chat-lora", "a PEFT adapter"),
        ("dvx commit ./chat --task piqa --meta lr=2e-5", "with what it was trained on, and how"),
    ],
    statuses=(CONFLICT, INTEGRITY, STORAGE),
)
@click.argument("source")
@click.option("--base", type=REVISION, metavar="REV", help="What it was trained from; found if left out.")
@options.name
@options.message
@click.option("--task", metavar="TASK", help="What it was trained for.")
@options.metadata
@click.option(
    "--parent",
    "parents",
    type=REVISION,
    multiple=True,
    metavar="REV[:ROLE]",
    help="A further parent; repeatable.",
)
@click.option("--allow-pickle-weights", is_flag=True, help="Convert .bin and .pt weights to safetensors.")
@options.intake
@options.works
@options.profiled
def commit(
    session: Session,
    source: str,
    base: str | None,
    name: str | None,
    message: str,
    task: str | None,
    metadata: tuple[tuple[str, str], ...],
    parents: tuple[str, ...],
    allow_pickle_weights: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    allow_incomplete: bool,
) -> None:
    """Commit a fine-tune or an adapter as a change to its base.

    SOURCE is a directory, a .safetensors file, or hf://ORG/NAME[@REVISION].

    Without --base it is found: from the marker that 'dvx checkout' left in the directory, from the
    branch's earlier commits, or from the weights themselves. What was found is said.

    If the branch exists already this becomes its next commit: NAME~1 is then the one before.
    """
    draft = dv.Draft(name, message, task, dict(metadata))
    intake = dv.Intake(include, exclude, allow_incomplete)
    with session.working() as repo:
        done = dv.commit(
            repo,
            source,
            base=base,
            draft=draft,
            parents=parents,
            intake=intake,
            allow_pickle=allow_pickle_weights,
        )
    session.emit(lambda: _document(done), _lines(done))


def _document(done: Committed) -> dict[str, object]:
    return {
        **reports.recorded_document(done.recorded),
        "base": done.base,
        "changed_share": done.changed_share,
        **findings.findings_document(done.findings),
        "converted": done.converted,
        "quantised_base": done.quantised_base,
        "adapter_type": done.adapter_type,
        "adapter_notes": done.adapter_notes,
    }


def _lines(done: Committed) -> Iterator[str]:
    made = done.recorded
    if made.unchanged:
        yield from reports.unchanged_lines(made)
        return
    what = "an adapter" if made.kind == "adapter" else "a fine-tune"
    title = f"{reports.name(made.name)} {reports.commit_id(made.commit)}"
    yield f"{title} committed as {what} of {_base(done.base)}"
    yield reports.stored_line(made)
    if done.changed_share is not None:
        yield f"{text.percent(done.changed_share)} of the weights differ from the base"
    yield from reports.nonfinite_lines(made)
    yield from findings.findings_lines(done.findings, done.converted)
    if done.quantised_base:
        scheme = text.plain(done.quantised_base)
        yield f"note: its base is quantised ({scheme}); it can be folded only into the 16-bit base"
    for note in done.adapter_notes:
        yield f"note: {text.plain(note)}"


def _base(base: Base) -> str:
    """The base, and how it was found."""
    how = {
        "given": "",
        "marker": " (found: the directory was checked out from it)",
        "previous": " (found: the base of the branch's last commit)",
        "modules": " (found: the only base that has its modules)",
        "inferred": " (found: the nearest weights"
        + (f", {text.percent(base.distance)} away)" if base.distance is not None else ")"),
    }
    return reports.name(base.name) + how.get(base.how, f" ({base.how})")
