"""`dvx ls`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

import deltavcs as dv
from dvx import refs_table, reports, text
from dvx.app import command
from dvx.exits import INTEGRITY
from dvx.options import REVISION
from dvx.session import Session
from dvx.table import Column, table

if TYPE_CHECKING:
    from deltavcs.porcelain.ls import Contents

_FILE_COLUMNS = (
    Column("file", least=12, middle=True),
    Column("size", right=True),
    Column("tensors", right=True),
)


@command(
    examples=[
        ("dvx ls", "all branches and tags"),
        ("dvx ls chat", "files and tensors of a checkpoint"),
        ("dvx ls chat '*q_proj*'", "those that fit a pattern"),
        ("dvx ls --names 'llama3*'", "branches and tags that fit a pattern"),
    ],
    statuses=(INTEGRITY,),
)
@click.argument("revision", required=False, type=REVISION, metavar="[REV")
@click.argument("pattern", required=False, metavar="[PATTERN]]")
@click.option("--names", "name_pattern", metavar="PATTERN", help="Only branches and tags that fit.")
def ls(session: Session, revision: str | None, pattern: str | None, name_pattern: str | None) -> None:
    """List branches and tags, or the files and tensors of a revision.

    PATTERN is a shell pattern, such as '*.mlp.*'; quote it.
    """
    repo = session.repository()
    if revision is None:
        refs = dv.ls(repo, name_pattern)
        nothing = "no branches or tags" + (f" fit {name_pattern!r}" if name_pattern else " yet")
        session.emit(lambda: {"names": refs}, refs_table.lines(refs, session.width, nothing=nothing))
        return
    found = dv.ls_revision(repo, revision, pattern)
    session.emit(
        lambda: {"revision": revision, "files": found.files, "tensors": found.tensors},
        _lines(found, session.width),
    )


def _lines(found: Contents, width: int | None) -> Iterator[str]:
    rows = [
        (text.plain(f.path), text.size(f.size), "" if f.n_tensors is None else f"{f.n_tensors:,}")
        for f in found.files
    ]
    if rows:
        yield from table(_FILE_COLUMNS, rows, width=width)
    if rows and found.tensors:
        yield ""
    if found.tensors:
        yield from reports.tensor_table(found.tensors, width=width, indent=0)
    if not rows and not found.tensors:
        yield "nothing fits"
