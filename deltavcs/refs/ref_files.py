"""The files below `refs/`: which of them are refs, and which were put there by someone else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from deltavcs.refs.names import is_readable_name
from deltavcs.storage import translate_os_errors

# Folders that a NAS puts everywhere, whose name would do for a branch.
_FOREIGN = frozenset({"@eaDir"})
_KEYED = ("refs/scores/",)


def list_ref_files(root: Path, prefix: str) -> list[str]:
    """Keys of everything below `prefix` that is no folder, sorted; links are followed, each folder once.

    A ref behind a link is a ref: what it names must not be collected.

    Raises:
        StorageError: a folder cannot be read.
    """
    with translate_os_errors(f"cannot list {root / prefix}"):
        return sorted(_walk(root / prefix, prefix, set()))


def is_ref_key(key: str) -> bool:
    """True if a file of this key is a ref; junk of file systems and sync tools is none (spec §6.1)."""
    _, _, inside = key.partition("/")
    kind, _, name = inside.partition("/")
    if not kind or not name or _FOREIGN & set(name.split("/")):
        return False
    return is_readable_name(name, keyed=key.startswith(_KEYED))


def _walk(folder: Path, prefix: str, seen: set[tuple[int, int]]) -> Iterator[str]:
    try:
        at = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda e: e.name)
    except FileNotFoundError:
        return
    if (at.st_dev, at.st_ino) in seen:
        return
    seen.add((at.st_dev, at.st_ino))
    for entry in entries:
        key = f"{prefix}/{entry.name}"
        if entry.is_dir():
            yield from _walk(Path(entry.path), key, seen)
        else:
            yield key
