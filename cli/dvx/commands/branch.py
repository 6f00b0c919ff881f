"""`dvx branch`."""

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
        ("dvx branch", "all branches"),
        ("dvx branch best run~3", "a new one"),
        ("dvx branch --rename old new", ""),
        ("dvx branch --delete best", "its commits stay until 'dvx gc'"),
    ],
    statuses=(CONFLICT,),
)
@click.argument("name", required=False, type=REVISION, metavar="[NAME")
@click.argument("revision", required=False, type=REVISION, metavar="REV]")
@click.option("-d", "--delete", is_flag=True, help="Delete the branch NAME.")
@click.option("--rename", is_flag=True, help="Rename the branch NAME to the second argument.")
def branch(session: Session, name: str | None, revision: str | None, delete: bool, rename: bool) -> None:
    """List branches, or make, rename or delete one.

    A branch is a name for a commit; committing to it moves it on. There is no current branch.
    """
    repo = session.repository()
    if name is None:
        if delete or rename:
            raise Usage("which branch? NAME is missing")
        found = dv.branches(repo)
        session.emit(lambda: {"branches": found}, refs_table.lines(found, session.width))
        return
    if delete and (rename or revision):
        raise Usage("--delete takes one NAME and nothing else")
    if revision is None and not delete:
        what = "the new name" if rename else "a revision"
        raise Usage(f"{what} is missing", hint=f"dvx branch {'--rename OLD NEW' if rename else 'NAME REV'}")
    if delete:
        done = dv.delete_branch(repo, name)
    elif rename:
        done = dv.rename_branch(repo, name, str(revision))
    else:
        done = dv.branch(repo, name, str(revision))
    word = "deleted" if delete else "renamed" if rename else "made"
    session.emit(lambda: {"branch": done}, refs_table.done(word, done))
