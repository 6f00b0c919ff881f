"""`dvx import`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

import deltavcs as dv
from dvx import options, reports
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
@options.onto
@click.option(
    "--allow-pickle-weights",
    is_flag=True,
    help="Convert .bin and .pt weights to safetensors, through torch.load(weights_only=True).",
)
@options.works
@options.profiled
def import_(
    session: Session,
    source: str,
    name: str | None,
    message: str,
    metadata: tuple[tuple[str, str], ...],
    force: bool,
    allow_pickle_weights: bool,
) -> None:
    """Commit a base model, which others are fine-tuned from.

    SOURCE is a directory, a .safetensors file, or hf://ORG/NAME[@REVISION]. Everything in the directory
    comes along, and every file comes back byte for byte.

    If the branch exists already, the base becomes its next commit.
    """
    draft = dv.Draft(name, message, metadata=dict(metadata), force=force)
    with session.working() as repo:
        done = dv.import_base(repo, source, draft=draft, allow_pickle=allow_pickle_weights)
    session.emit(
        lambda: {
            **reports.recorded_document(done.recorded),
            "source": done.source,
            "skipped": done.skipped,
            "converted": done.converted,
            "copy_of": done.copy_of,
        },
        _lines(done),
    )


def _lines(done: Imported) -> Iterator[str]:
    made = done.recorded
    if made.unchanged:
        yield from reports.unchanged_lines(made)
        return
    yield f"{reports.name(made.name)} {reports.commit_id(made.commit)} imported as a base"
    if done.copy_of is not None:
        yield f"{reports.name(done.copy_of)} has these weights already"
    yield reports.stored_line(made)
    if not done.n_own_tensors:
        yield f"{reports.WARNING} no weights at the top of it; those in folders are merged folder by folder"
        yield "If these are several models, import each of them: dvx import DIR/MODEL --as NAME"
    yield from reports.source_lines(done.skipped, done.converted)
