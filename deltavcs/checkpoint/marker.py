"""The marker that a checkout leaves: what was written, so that a later one can take it away again.

Its layout is in `docs/spec/v1-checkout.md`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deltavcs.advice import Advice
from deltavcs.checkpoint.layout import MARKER, MAX_JSON_BYTES
from deltavcs.errors import ErrorKind, FormatError, InvalidInputError
from deltavcs.objects.paths import check_path
from deltavcs.oid import CommitId, is_oid
from deltavcs.storage.file_calls import sync_directory


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file as a checkout wrote it.

    Attributes:
        identity: of its content, as `deltavcs.checkpoint.file_identity` has it.
        stamp: size, modification and change time in nanoseconds, as the file system had them; None if the
            writer did not note them.
    """

    identity: str
    stamp: tuple[int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class Marker:
    """What was checked out into a directory.

    Attributes:
        files: by path; None in markers of versions that did not note them.
    """

    commit: CommitId
    revision: str
    files: Mapping[str, WrittenFile] | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A directory on its way from one checkout to another: what it held, and what it is to hold.

    Attributes:
        before: files of the checkouts before.
        to: what is being written; its files have no stamps yet.
    """

    before: Mapping[str, WrittenFile] = field(default_factory=dict)
    to: Marker | None = None


def encode_marker(found: Marker | Change) -> bytes:
    """Content of the marker file. A change has no `commit` at its top: what is there is no checkpoint yet."""
    if isinstance(found, Marker):
        value = _marker_json(found)
    else:
        value = {"files": _files_json(found.before)}
        if found.to is not None:
            value["changing"] = _marker_json(found.to)
    return (json.dumps(value, indent=1) + "\n").encode()


def _marker_json(marker: Marker) -> dict[str, Any]:
    value: dict[str, Any] = {"commit": marker.commit, "revision": marker.revision}
    if marker.files is not None:
        value["files"] = _files_json(marker.files)
    return value


def _files_json(files: Mapping[str, WrittenFile]) -> dict[str, Any]:
    return {p: [f.identity, *(f.stamp or ())] for p, f in sorted(files.items())}


def read_marker(directory: Path) -> Marker | None:
    """The marker of a directory; None if there is none, it is not one, or a change is under way."""
    found = read_state(directory)
    return found if isinstance(found, Marker) else None


def read_state(directory: Path) -> Marker | Change | None:
    """What a directory says of the checkouts into it; None if nothing that can be understood.

    Paths that could lead out of the directory make it none: a marker is as hostile as any file.
    """
    path = directory / MARKER
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_JSON_BYTES:
            return None
        raw = json.loads(path.read_bytes())
        if "commit" in raw:
            return _parse_marker(raw)
        to = _parse_marker(raw["changing"]) if "changing" in raw else None
        return Change(_parse_files(raw["files"]), to)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, FormatError):
        return None


def check_settled(directory: Path) -> None:
    """Refuse a directory whose checkout was cut off: it holds files of two checkpoints.

    Raises:
        InvalidInputError: `bad-checkpoint`.
    """
    state = read_state(directory)
    if isinstance(state, Change):
        revision = state.to.revision if state.to is not None else "REV"
        raise InvalidInputError(
            f"{directory}: a checkout of {revision} into it was cut off; it holds files of two checkpoints",
            kind=ErrorKind.BAD_CHECKPOINT,
            advice=Advice.FINISH_CHECKOUT,
            facts={"revision": revision, "directory": str(directory)},
        )


def _parse_marker(raw: Mapping[str, Any]) -> Marker:
    commit, revision = raw["commit"], raw["revision"]
    if not is_oid(str(commit)) or not isinstance(revision, str):
        raise ValueError(revision)
    files = _parse_files(raw["files"]) if "files" in raw else None
    return Marker(CommitId(commit), revision, files)


def _parse_files(raw: Mapping[str, Any]) -> dict[str, WrittenFile]:
    files = {}
    for path, (identity, *numbers) in raw.items():
        if not is_oid(identity) or len(numbers) not in (0, 3) or not all(isinstance(n, int) for n in numbers):
            raise ValueError(path)
        files[check_path(path)] = WrittenFile(
            identity, (numbers[0], numbers[1], numbers[2]) if numbers else None
        )
    return files


def write_marker(directory: Path, found: Marker | Change, draft: Path, *, durable: bool) -> None:
    """Put the marker of a directory in place in one step.

    Args:
        draft: a folder on the same file system, where it is written first.
        durable: wait for the disk.
    """
    first = draft / MARKER
    fd = os.open(first, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    with os.fdopen(fd, "wb") as file:
        file.write(encode_marker(found))
        file.flush()
        if durable:
            os.fsync(file.fileno())
    first.replace(directory / MARKER)
    if durable:
        sync_directory(directory)
