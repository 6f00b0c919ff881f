"""`dvx tag`."""

from __future__ import annotations

import click

import deltavcs as dv
from dvx import refs_table
from dvx.app import command
from dvx.exits import CONFLICT
from dvx.failures import Usage
from dvx.options import REVISION
from dvx.session import Session


@command(
    examples=[
        ("dvx tag", "all tags"),
        ("dvx tag v1.0 chat", "a new one"),
        ("dvx tag --delete v1.0", "its commit stays until 'dvx gc'"),
    ],
    statuses=(CONFLICT,),
)
@click.argument("name", required=False, type=REVISION, metavar="[NAME")
@click.argument("revision", required=False, type=REVISION, metavar="REV]")
@click.option("-d", "--delete", is_flag=True, help="Delete the tag NAME.")
def tag(session: Session, name: str | None, revision: str | None, delete: bool) -> None:
    """List tags, or make or delete one.

    A tag is a name for a commit that does not move.
    """
    repo = session.repository()
    if name is None:
        if delete:
            raise Usage("which tag? NAME is missing")
        found = dv.tags(repo)
        session.emit(lambda: {"tags": found}, refs_table.lines(found, session.width))
        return
    if delete:
        if revision:
            raise Usage("--delete takes one NAME and nothing else")
        done = dv.delete_tag(repo, name)
    else:
        if revision is None:
            raise Usage("a revision is missing", hint="dvx tag NAME REV")
        done = dv.tag(repo, name, revision)
    session.emit(lambda: {"tag": done}, refs_table.done("deleted" if delete else "made", done))
