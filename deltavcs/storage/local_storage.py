"""A directory as storage: atomic, durable puts; advisory locks that die with their holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from deltavcs.errors import ConflictError, ErrorKind, FormatError, InternalError
from deltavcs.storage.file_calls import FileReader, sync_directory, translate_os_errors, write_all

_LOCK_ATTEMPTS = 100


class LocalStorage:
    """Bytes under `/`-separated keys below one directory.

    Every change goes through `step`, which does nothing here: tests override it to make any of them
    fail, as a full disk or a lost machine would.

    Args:
        root: the directory.
        sync: False leaves durability to the system; only for benchmarks and throw-away repositories.
    """

    def __init__(self, root: Path, *, sync: bool = True) -> None:
        self.root = root
        self.sync = sync

    def step(self, what: str, key: str) -> None:
        """Called before every change, with what is about to happen to which key."""

    def path(self, key: str) -> Path:
        """Where `key` lives. Keys are made by this library; a bad one is a bug or an attack."""
        if not key or key.startswith("/") or any(p in ("", ".", "..") for p in key.split("/")) or "\0" in key:
            raise InternalError(f"not a storage key: {key!r}", kind=ErrorKind.BUG)
        return self.root / key

    def exists(self, key: str) -> bool:
        """True if there is a file under `key`."""
        return self.path(key).is_file()

    def read(self, key: str, *, max_bytes: int) -> bytes:
        """Return the bytes under `key`.

        Raises:
            NotFoundError: `unknown-object`.
            FormatError: `limit-exceeded` if there are more than `max_bytes`.
        """
        path = self.path(key)
        with translate_os_errors(f"cannot read {path}"), path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > max_bytes:
                raise FormatError(
                    f"{path} has {size} bytes; at most {max_bytes} are allowed", kind=ErrorKind.LIMIT_EXCEEDED
                )
            return file.read()

    def open(self, key: str) -> FileReader:
        """Open the file under `key` for reading ranges."""
        return FileReader(self.path(key))

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys of all files below the directory `prefix`, sorted."""
        top = self.path(prefix)
        with translate_os_errors(f"cannot list {top}"):
            yield from sorted(_walk(top, prefix))

    def put(self, key: str, data: bytes, *, overwrite: bool = True) -> None:
        """Write `data` under `key`, all or nothing, durable when this returns.

        With `overwrite=False` an existing file is left as it is: for content-addressed keys.
        """
        path = self.path(key)
        if not overwrite and path.exists():
            return
        with translate_os_errors(f"cannot write {path}"):
            self.step("write", key)
            fd, temporary = self._temporary()
            try:
                write_all(fd, data, 0)
                if self.sync:
                    os.fsync(fd)
                self.step("rename", key)
                self.make_directory(path.parent)
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            finally:
                os.close(fd)
            self.step("sync", key)
            self.sync_names(path.parent)

    def delete(self, key: str) -> None:
        """Remove `key`; nothing happens if it is not there."""
        path = self.path(key)
        with translate_os_errors(f"cannot delete {path}"):
            self.step("delete", key)
            path.unlink(missing_ok=True)
            if path.parent.is_dir():
                self.sync_names(path.parent)

    def append(self, key: str, data: bytes) -> None:
        """Add a line at the end of `key` under an exclusive lock, durable when this returns."""
        path = self.path(key)
        with translate_os_errors(f"cannot append to {path}"):
            self.step("append", key)
            self.make_directory(path.parent)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                size = os.fstat(fd).st_size
                torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"  # by a crash
                os.write(fd, b"\n" + data if torn else data)
                if self.sync:
                    os.fsync(fd)
            finally:
                os.close(fd)

    @contextlib.contextmanager
    def lock(self, key: str, *, shared: bool = False, wait: bool = True) -> Iterator[None]:
        """Hold an advisory lock on `key`; the system drops it if this process dies.

        Raises:
            ConflictError: `locked` if `wait` is False and someone else holds it.
        """
        path = self.path(key)
        mode = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
        with translate_os_errors(f"cannot lock {path}"):
            fd = _open_locked(path, mode)
        try:
            yield
        finally:
            os.close(fd)

    def make_directory(self, path: Path) -> None:
        """Create a directory below the root and make its name durable."""
        missing: list[Path] = []
        while not path.is_dir() and path != self.root.parent:
            missing.append(path)
            path = path.parent
        for one in reversed(missing):
            one.mkdir(exist_ok=True)
            self.sync_names(one.parent)

    def sync_names(self, directory: Path) -> None:
        """Make the names in `directory` durable."""
        if self.sync:
            sync_directory(directory)

    def _temporary(self) -> tuple[int, Path]:
        """A new file under `tmp/`, locked so that no sweep takes it for a dead writer's."""
        while True:
            path = self.root / "tmp" / f"put-{os.urandom(8).hex()}"
            path.parent.mkdir(exist_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if path.exists():  # a sweep may have come between open and flock
                return fd, path
            os.close(fd)


def _open_locked(path: Path, mode: int) -> int:
    """The file `path`, open and locked; made if it is not there."""
    for attempt in range(_LOCK_ATTEMPTS):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except (FileNotFoundError, FileExistsError):  # a sweep removes the folder at this moment
            if attempt + 1 == _LOCK_ATTEMPTS:
                raise
            continue
        try:
            fcntl.flock(fd, mode)
            if _is_at(fd, path):
                return fd
        except BlockingIOError as exc:
            os.close(fd)
            raise ConflictError(
                f"{path} is locked by another process",
                kind=ErrorKind.LOCKED,
            ) from exc
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # a sweep removed it between opening and locking: it would lock nothing
    raise ConflictError(f"{path} is removed again and again", kind=ErrorKind.LOCKED)


def _is_at(fd: int, path: Path) -> bool:
    """True if the open file is still the one called `path`."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _walk(top: Path, prefix: str) -> Iterator[str]:
    try:
        entries = list(os.scandir(top))
    except FileNotFoundError:
        return
    for entry in entries:
        key = f"{prefix}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), key)
        elif entry.is_file(follow_symlinks=False):
            yield key
