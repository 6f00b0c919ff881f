"""The marker that a checkout leaves, so that a later commit finds its base."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from deltavcs.checkpoint.layout import MARKER
from deltavcs.oid import CommitId, is_oid

_MAX_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Marker:
    """What was checked out into a directory."""

    commit: CommitId
    revision: str


def encode_marker(marker: Marker) -> bytes:
    """Content of the marker file."""
    return (json.dumps({"commit": marker.commit, "revision": marker.revision}, indent=2) + "\n").encode()


def read_marker(directory: Path) -> Marker | None:
    """The marker of a directory; None if there is none, or it is not one."""
    path = directory / MARKER
    try:
        if not path.is_file() or path.stat().st_size > _MAX_BYTES:
            return None
        raw = json.loads(path.read_bytes())
        commit, revision = raw["commit"], raw["revision"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not is_oid(str(commit)) or not isinstance(revision, str):
        return None
    return Marker(CommitId(commit), revision)
