"""Paths inside a manifest: the one door every path from disk or from a remote goes through (spec §3.1)."""

from __future__ import annotations

from collections.abc import Iterable

from deltavcs.errors import ErrorKind, FormatError

MAX_PATH_BYTES = 1024


def check_path(path: str) -> str:
    """Return `path` if writing it below any directory is safe.

    Raises:
        FormatError: `bad-path`, with the rule that it breaks.
    """
    if not path or len(path.encode(errors="replace")) > MAX_PATH_BYTES:
        raise _unsafe(path, f"must be 1 to {MAX_PATH_BYTES} bytes")
    if path.startswith("/"):
        raise _unsafe(path, "is absolute")
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise _unsafe(path, "has an empty, '.' or '..' component")
    # Backslashes and colons are separators, drives or streams on other systems.
    if any(c in "\\:" or ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) < 0xE000 for c in path):
        raise _unsafe(path, "holds a backslash, a colon, a control character or a lone surrogate")
    if parts[0].casefold() == ".dvx":
        raise _unsafe(path, "lies in a repository")
    return path


def check_paths(paths: Iterable[str]) -> None:
    """Check that a set of paths can live in one directory, also where case is ignored.

    Raises:
        FormatError: `bad-path` if two are the same or one is a directory of another.
    """
    seen: set[str] = set()
    for path in paths:
        folded = path.casefold()
        if folded in seen:
            raise _unsafe(path, "stands there twice, or differs from another only in case")
        seen.add(folded)
    for folded in seen:
        at = folded.find("/")
        while at >= 0:
            if folded[:at] in seen:
                raise _unsafe(folded[:at], "is both a file and a directory")
            at = folded.find("/", at + 1)


def _unsafe(path: str, why: str) -> FormatError:
    return FormatError(f"unsafe path {path!r}: {why}", kind=ErrorKind.BAD_PATH)
