"""`dvx index`."""

from __future__ import annotations

import deltavcs as dv
from dvx import text
from dvx.app import command, group
from dvx.exits import CONFLICT, INTEGRITY
from dvx.session import Session


@group(examples=[("dvx index rebuild", "derive everything anew")])
def index() -> None:
    """Rebuild the lineage index.

    'dvx sql', 'du' and 'lineage --down' read it. It is derived from the history and keeps up by itself;
    nothing is lost with it.
    """


@command(examples=[("dvx index rebuild", "")], statuses=(CONFLICT, INTEGRITY))
def rebuild(session: Session) -> None:
    """Derive the lineage index anew, and pack indexes that are damaged."""
    done = dv.rebuild_index(session.repository())
    packs = text.count(len(done.pack_indexes), "pack index", "pack indexes")
    session.emit(
        lambda: {"n_commits": done.n_commits, "pack_indexes": done.pack_indexes},
        (f"rebuilt the lineage index of {text.count(done.n_commits, 'commit')}, and {packs}",),
    )


index.add_command(rebuild)
