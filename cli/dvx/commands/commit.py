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
    from deltavcs.steps.found_base import Base


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
@options.onto
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
    force: bool,
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
    draft = dv.Draft(name, message, task, dict(metadata), force=force)
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
    if done.quantised_base:
        scheme = text.plain(done.quantised_base)
        session.note(f"its base is quantised ({scheme}); it can be folded only into the 16-bit base")


def _document(done: Committed) -> dict[str, object]:
    return {
        **reports.recorded_document(done.recorded),
        "base": done.base,
        "base_is_unrelated": done.base.is_unrelated,
        "names_differ": done.names_differ,
        "new_tensors": done.new_tensors,
        "missing_tensors": done.missing_tensors,
        "copy_of": done.copy_of,
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
        yield from findings.findings_lines(done.findings, done.converted)
        return
    yield f"{reports.name(made.name)} {reports.commit_id(made.commit)} committed as {_what(done)}"
    yield reports.stored_line(made)
    yield from _doubts(done.base)
    yield from _names(done)
    if done.changed_share is not None and done.copy_of != done.base.name:
        if done.changed_share:
            yield f"{text.percent(done.changed_share)} of the weights differ from the base"
        else:
            yield "the weights that the base has too are the same"
    yield from reports.nonfinite_lines(made)
    yield from findings.findings_lines(done.findings, done.converted)
    for note in done.adapter_notes:
        yield f"note: {text.plain(note)}"


def _what(done: Committed) -> str:
    """What was committed, and of what."""
    what = "an adapter" if done.recorded.kind == "adapter" else "a fine-tune"
    if done.copy_of is None:
        return f"{what} of {_base(done.base)}"
    if done.copy_of == done.base.name:
        return f"a copy of {_base(done.base)}, which has these weights already"
    copy = f"a copy of {reports.name(done.copy_of)}, which has these weights already"
    return f"{copy}: {what} of {reports.name(done.base.name)}"


def _doubts(base: Base) -> Iterator[str]:
    """What speaks against the base."""
    if base.is_unrelated:
        near = ""
        if base.nearer is not None:
            near = f"; nearer is {reports.name(base.nearer.name)}, {text.percent(base.nearer.distance)} away"
        away = f"{text.percent(base.distance)} away"
        yield f"{reports.WARNING} the weights are unrelated to {reports.name(base.name)} ({away}){near}"
    if base.runner_up is not None:
        second = f"{reports.name(base.runner_up.name)}, {text.percent(base.runner_up.distance)} away"
        yield f"next nearest: {second}"
    if base.passed_over is not None:
        over = base.passed_over
        away = f"{text.percent(over.distance)} away" if over.distance is not None else "other tensors"
        yield f"not {reports.name(over.name)}, though the directory or the branch says so: unrelated, {away}"
    if base.named is not None:
        named = text.plain(base.named)
        yield f"adapter_config.json names {named}, which is not known here; this is the only base it fits"


def _names(done: Committed) -> Iterator[str]:
    """How the tensors differ from those of the base by name."""
    if done.names_differ:
        yield f"{done.names_differ}, unlike those of the base"
    for names, verb in ((done.new_tensors, "new"), (done.missing_tensors, "missing")):
        if names:
            are = "is" if len(names) == 1 else "are"
            yield f"{text.count(len(names), 'tensor')} {are} {verb}: {text.join(names, 5)}"


def _base(base: Base) -> str:
    """The base, and how it was found."""
    how = {
        "given": "",
        "marker": " (found: the directory was checked out from it)",
        "previous": " (found: the base of the branch's last commit)",
        "config": " (found: adapter_config.json names it)",
        "copy": "",
        "inferred": " (found: the nearest weights"
        + (f", {text.percent(base.distance)} away)" if base.distance is not None else ")"),
    }
    return reports.name(base.name) + how.get(base.how, f" ({base.how})")
