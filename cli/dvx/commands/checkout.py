"""`dvx checkout`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

import deltavcs as dv
from dvx import options, reports, text
from dvx.app import command
from dvx.exits import CONFLICT, INTEGRITY, STORAGE
from dvx.failures import Usage
from dvx.options import REVISION
from dvx.session import Session

if TYPE_CHECKING:
    from deltavcs.steps.checkouts import CheckedOut


@command(
    examples=[
        ("dvx checkout chat -o ./out", "a directory that from_pretrained() loads"),
        ("dvx checkout run~2 --update ./out", "an earlier commit, over the one that is there"),
        ("dvx checkout 'v2 + 0.8 * (chat - v1)' -o ./out", "a sum, computed on the way"),
        ("dvx checkout chat-lora --merge-adapter -o ./out", "base and adapter in one"),
    ],
    statuses=(CONFLICT, INTEGRITY, STORAGE),
)
@click.argument("revision", metavar="REV|EXPRESSION", type=REVISION)
@click.option("-o", "--output", metavar="DIR", type=click.Path(path_type=Path), help="Where to write it.")
@click.option(
    "--update", metavar="DIR", type=click.Path(path_type=Path),
    help="Change an earlier checkout into this one: only files that differ.",
)  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Write into a directory that is not empty.")
@click.option("--dtype", metavar="DTYPE", help="Convert floating-point tensors, e.g. to bfloat16.")
@click.option("--merge-adapter", is_flag=True, help="Fold an adapter into its base: W + (alpha/r)·B·A.")
@options.dequantized
@options.works
@options.profiled
def checkout(
    session: Session,
    revision: str,
    output: Path | None,
    update: Path | None,
    force: bool,
    dtype: str | None,
    merge_adapter: bool,
    dequantize: bool,
) -> None:
    """Write a checkpoint, or a sum of some, to a directory.

    Every file of a commit comes out byte for byte as it went in.

    An EXPRESSION is a sum of revisions with factors and brackets, operators set off by spaces, such as
    'llama3.1 + 0.8 * (chat - llama3.0)'. It is computed in float64 and rounded once.

    A quantised checkpoint is written as it is. To compute with one, --dtype and sums need --dequantize.

    The output directory must be empty, or not exist, unless --force or --update. What an earlier checkout
    wrote there and this one does not have is removed; other files stay. Weights that are not as a checkout
    wrote them are never replaced. --update replaces no file at all that was changed since.
    """
    place = output if output is not None else update
    if place is None or (output is not None and update is not None):
        raise Usage("where to? name one directory, with -o or with --update")
    if update is not None and force:
        raise Usage("--update replaces only what a checkout wrote: leave --force out, or use -o DIR --force")
    with session.working() as repo:
        done = dv.checkout_files(
            repo,
            revision,
            place,
            dtype=dtype,
            merge_adapter=merge_adapter,
            force=force,
            update=update is not None,
            dequantize=dequantize,
        )
    session.emit(lambda: {**_document(done), "revision": revision}, _lines(done, revision))
    session.note(reports.overflow_note(done.overflowed))


def _document(done: CheckedOut) -> dict[str, object]:
    return {
        "path": done.path.absolute(),
        "commit": done.commit,
        "recipe": done.recipe,
        "n_files": done.n_files,
        "n_tensors": done.n_tensors,
        "n_bytes": done.n_bytes,
        "dequantized": done.dequantised,
        "overflowed": done.overflowed,
        "changed": done.changed,
        "kept": done.kept,
        "removed": done.removed,
        "stayed": done.stayed,
        "notes": done.notes,
    }


def _lines(done: CheckedOut, revision: str) -> Iterator[str]:
    what = f" {reports.commit_id(done.commit)}" if done.commit else ""
    yield f"{reports.name(revision.strip())}{what} written to {done.path}"
    files, tensors = text.count(done.n_files, "file"), text.count(done.n_tensors, "tensor")
    yield f"{files}, {tensors}, {text.size(done.n_bytes)}"
    yield from reports.dequantised_lines(done.dequantised)
    if done.kept or done.removed or done.stayed:
        numbers = (len(done.changed), len(done.kept), len(done.removed))
        yield "{:,} changed, {:,} kept as they were, {:,} removed".format(*numbers)
    if done.removed:
        yield f"removed: {text.join(done.removed)}"
    if done.stayed:
        yield f"left, since they were changed after the earlier checkout: {text.join(done.stayed)}"
    for note in done.notes:
        yield f"note: {text.plain(note)}"
