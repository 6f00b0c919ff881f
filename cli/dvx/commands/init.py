"""`dvx init`."""

from __future__ import annotations

from pathlib import Path

import click

import deltavcs as dv
from dvx.app import command
from dvx.exits import STORAGE
from dvx.reports import next_step
from dvx.session import Session


@command(
    examples=[
        ("dvx init", "in this directory"),
        ("dvx init ~/models", "in another one; it is made if need be"),
    ],
    statuses=(STORAGE,),
    in_repository=False,
)
@click.argument("directory", type=click.Path(path_type=Path), default=Path())
def init(session: Session, directory: Path) -> None:
    """Create an empty repository.

    It lives in DIRECTORY/.dvx. The commands that follow find it from anywhere below DIRECTORY, as Git
    does, or through --repo DIRECTORY or DVX_REPO.
    """
    path = dv.init(directory).path.absolute()
    session.emit(
        lambda: {"path": path},
        (
            f"made an empty repository in {path}",
            next_step("dvx import DIR --as NAME", "begin with a base model"),
        ),
    )
