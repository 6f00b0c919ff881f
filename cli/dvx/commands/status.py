"""`dvx status`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

import deltavcs as dv
from dvx import options, reports, text
from dvx.app import command
from dvx.exits import INTEGRITY
from dvx.options import REVISION
from dvx.session import Session

if TYPE_CHECKING:
    from deltavcs.porcelain.status import Status

_SHOWN = 12


@command(
    examples=[
        ("dvx status ./out", "against the commit it was checked out from"),
        ("dvx status ./out --base v1", "against another one"),
    ],
    statuses=(INTEGRITY,),
)
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--base", type=REVISION, metavar="REV", help="Compare with this revision.")
@options.works
def status(session: Session, directory: Path, base: str | None) -> None:
    """Say what a directory changed since it was checked out.

    The commit is known from the marker that 'dvx checkout' left, or from the weights.
    """
    with session.working() as repo:
        found = dv.status(repo, directory, base=base)
    session.emit(lambda: _document(found), _lines(found))


def _document(found: Status) -> dict[str, object]:
    from dvx.output import jsonable

    return dict(jsonable(found))


def _lines(found: Status) -> Iterator[str]:
    how = {"given": "", "marker": "checked out from ", "inferred": "nearest to "}.get(found.how, "")
    where = f"{found.directory}: {how}{reports.name(found.name)} {reports.commit_id(found.commit)}"
    if found.clean:
        yield f"{where}, unchanged"
        return
    yield where
    changed = len(found.tensors_changed)
    if changed:
        yield f"{changed:,} of {text.count(found.n_tensors, 'tensor')} changed"
    for mark, what, names in (
        ("M", "tensor", found.tensors_changed),
        ("A", "tensor", found.tensors_added),
        ("D", "tensor", found.tensors_removed),
        ("M", "file", found.files_changed),
        ("A", "file", found.files_added),
        ("D", "file", found.files_removed),
    ):
        for name in names[:_SHOWN]:
            yield f"  {mark} {what} {text.cell(name)}"
        if len(names) > _SHOWN:
            yield f"  {mark} and {text.count(len(names) - _SHOWN, f'more {what}')}"
    yield reports.next_step(f"dvx commit {found.directory} --as NAME")
