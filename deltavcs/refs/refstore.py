"""Refs as files: read without a lock, moved by compare-and-swap, every move logged (spec §6)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, TypeAlias

from deltavcs.advice import Advice
from deltavcs.brief import brief
from deltavcs.errors import (
    AlreadyExistsError,
    ConflictError,
    ErrorKind,
    FormatError,
    IntegrityError,
    NotFoundError,
    StorageError,
)
from deltavcs.oid import hash_bytes, is_oid
from deltavcs.refs.ref_files import is_ref_key, list_ref_files
from deltavcs.signature import Signature
from deltavcs.storage import LocalStorage

_MAX_REF_BYTES = 256
_MAX_LOG_BYTES = 1 << 30


class NoValue(Enum):
    """What a ref has that names nothing: it does not exist, or its file does not hold an id."""

    ABSENT = "absent"
    BROKEN = "broken"


ABSENT: Final = NoValue.ABSENT
BROKEN: Final = NoValue.BROKEN
Value: TypeAlias = str | Literal[NoValue.ABSENT]


@dataclass(frozen=True, slots=True)
class RefMove:
    """One line of the reflog; None for a ref that did not exist or no longer does."""

    ref: str
    old: str | None
    new: str | None
    author: str
    time: int
    message: str

    __repr__ = brief


class RefStore:
    """The refs of a repository, by full name such as `refs/heads/llama3.1`.

    Attributes:
        broken: refs that `all` left out so far, and why.
    """

    def __init__(self, storage: LocalStorage) -> None:
        self._storage = storage
        self.broken: dict[str, IntegrityError] = {}

    def get(self, ref: str) -> Value:
        """What `ref` names, or ABSENT.

        Raises:
            IntegrityError: `corrupt` if the file does not hold an id.
        """
        if not self._storage.exists(ref):
            return self._absent(ref)
        try:
            data = self._storage.read(ref, max_bytes=_MAX_REF_BYTES)
        except NotFoundError:
            return ABSENT
        except FormatError as exc:
            raise _broken(ref, "does not hold an id") from exc
        text = data.decode("ascii", "replace").removesuffix("\n")
        if not is_oid(text):
            raise _broken(ref, "does not hold an id")
        return text

    def peek(self, ref: str) -> str | NoValue:
        """What `ref` names, ABSENT or BROKEN."""
        try:
            return self.get(ref)
        except IntegrityError:
            return BROKEN

    def _absent(self, ref: str) -> Value:
        """ABSENT, unless something is there that is neither a file nor a folder of refs."""
        path = self._storage.path(ref)
        if path.is_dir() or (not path.is_symlink() and not path.exists()):
            return ABSENT
        raise _broken(ref, "is a dangling link" if path.is_symlink() else "is no file")

    def names(self, prefix: str = "refs") -> Iterator[str]:
        """Full names of all refs below `prefix`, sorted; their values are not read."""
        return filter(is_ref_key, list_ref_files(self._storage.root, prefix))

    def strays(self) -> Iterator[str]:
        """Keys of files among the refs whose names no ref can have, such as a sync tool's second copies."""
        return (key for key in list_ref_files(self._storage.root, "refs") if not is_ref_key(key))

    def all(self, prefix: str = "refs") -> dict[str, str]:
        """All refs below `prefix` and what they name, sorted by name; broken ones go to `broken`."""
        found = {}
        for ref in self.names(prefix):
            try:
                value = self.get(ref)
            except IntegrityError as exc:
                self.broken[ref] = exc
                continue
            if value is not ABSENT:
                found[ref] = value
        return found

    def move(self, ref: str, *, expected: str | NoValue, new: Value, signature: Signature) -> None:
        """Set `ref` to `new`, or delete it if that is ABSENT, if it still is `expected`.

        Args:
            expected: an id, ABSENT, or BROKEN for a ref that is to be mended.

        Raises:
            ConflictError: `ref-moved` if it is not what was expected; nothing was changed.
            AlreadyExistsError: `ref-exists` if a name above or below it is taken.
        """
        with self._storage.lock(f"locks/ref-{hash_bytes('ref', ref.encode())[:32]}"):
            current = self.peek(ref)
            if current != expected:
                raise ConflictError(
                    f"{_short(ref)} is now {_show(current)}, not {_show(expected)}: someone moved it",
                    kind=ErrorKind.REF_MOVED,
                )
            if new is ABSENT:
                # First the log: a ref that is gone and not known to be deleted looks lost.
                self._log(ref, expected, new, signature)
                self._storage.delete(ref)
                self._drop_empty_folders(ref)
                return
            self._check_folders(ref)
            self._storage.put(ref, f"{new}\n".encode())
        # The ref has moved: that is the commit. Without a line in the log it is still complete.
        self._log(ref, expected, new, signature)

    def log(self) -> Iterator[RefMove]:
        """The reflog, oldest first; lines that a crash left incomplete are skipped."""
        if not self._storage.exists("logs/refs.log"):
            return
        data = self._storage.read("logs/refs.log", max_bytes=_MAX_LOG_BYTES)
        for line in data.decode("utf-8", "replace").split("\n"):  # splitlines would split at U+2028
            with contextlib.suppress(ValueError, TypeError):
                yield RefMove(**json.loads(line))

    def _log(self, ref: str, old: str | NoValue, new: Value, signature: Signature) -> None:
        entry = {
            "ref": ref,
            "old": None if isinstance(old, NoValue) else old,
            "new": None if isinstance(new, NoValue) else new,
            "author": signature.author,
            "time": signature.time,
            "message": signature.message.splitlines()[0] if signature.message else "",
        }
        with contextlib.suppress(StorageError):
            self._storage.append("logs/refs.log", json.dumps(entry, ensure_ascii=False).encode() + b"\n")

    def _check_folders(self, ref: str) -> None:
        """A name cannot be both a ref and a folder of refs."""
        above = ref.split("/")
        taken = next(
            (name for i in range(3, len(above)) if self._storage.exists(name := "/".join(above[:i]))), None
        )
        if taken is None and self._storage.path(ref).is_dir():
            taken = next(iter(self._storage.list(ref)), None)
            if taken is None:
                self._drop_empty_folders(f"{ref}/x")
        if taken is not None:
            raise AlreadyExistsError(
                f"{_short(ref)} cannot be created: {_short(taken)} exists",
                kind=ErrorKind.REF_EXISTS,
                advice=Advice.AVOID_FOLDER,
            )

    def _drop_empty_folders(self, ref: str) -> None:
        folder = self._storage.path(ref).parent
        while len(folder.relative_to(self._storage.root).parts) > 2:
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent


def _short(ref: str) -> str:
    return ref.removeprefix("refs/heads/").removeprefix("refs/")


def _show(value: str | NoValue) -> str:
    return value.value if isinstance(value, NoValue) else value[:12]


def _broken(ref: str, why: str) -> IntegrityError:
    return IntegrityError(f"{ref} {why}", kind=ErrorKind.CORRUPT, advice=Advice.READ_REFLOG)
