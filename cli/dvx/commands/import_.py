"""`dvx import`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

import deltavcs as dv
from dvx import findings, options, reports
from dvx.app import command
from dvx.exits import CONFLICT, STORAGE
from dvx.session import Session

if TYPE_CHECKING:
    from deltavcs.porcelain.import_ import Imported


@command(
    examples=[
        ("dvx import ./Llama-3.0-8B --as llama3.0", "a directory"),
        ("dvx import model.safetensors", "a single file; the name is 'model'"),
        ("dvx import hf://meta-llama/Llama-3.1-8B@main --as llama3.1", "from the Hugging Face Hub"),
    ],
    statuses=(CONFLICT, STORAGE),
)
@click.argument("source")
@options.name
@options.message
@options.metadata
@click.option(
    "--allow-pickle-weights",
    is_flag=True,
    help="Convert .bin and .pt weights to safetensors, through torch.load(weights_only=True).",
)
@options.intake
@options.works
@options.profiled
def import_(
    session: Session,
    source: str,
    name: str | None,
    message: str,
    metadata: tuple[tuple[str, str], ...],
    allow_pickle_weights: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    allow_incomplete: bool,
) -> None:
    """Commit a base model, which others are fine-tuned from.

    SOURCE is a directory, a .safetensors file, or hf://ORG/NAME[@REVISION]. Everything in the directory
    comes along, and every file comes back byte for byte; but for optimizer state, logs and other things that
    training leaves, which are named. --include takes them, --exclude and .dvxignore leave out more.

    If the branch exists already, the base becomes its next commit.
    """
    draft = dv.Draft(name, message, metadata=dict(metadata))
    intake = dv.Intake(include, exclude, allow_incomplete)
    with session.working() as repo:
        done = dv.import_base(repo, source, draft=draft, intake=intake, allow_pickle=allow_pickle_weights)
    session.emit(
        lambda: {
            **reports.recorded_document(done.recorded),
            "source": done.source,
            **findings.findings_document(done.findings),
            "converted": done.converted,
        },
        _lines(done),
    )


def _lines(done: Imported) -> Iterator[str]:
    made = done.recorded
    if made.unchanged:
        yield from reports.unchanged_lines(made)
        return
    yield f"{reports.name(made.name)} {reports.commit_id(made.commit)} imported as a base"
    yield reports.stored_line(made)
    if not done.n_own_tensors and not done.findings.whole_files:
        yield f"{reports.WARNING} no weights at the top of it; those of its folders are kept as they are"
        yield "If these are several models, import each of them: dvx import DIR/MODEL --as NAME"
    yield from findings.findings_lines(done.findings, done.converted)
