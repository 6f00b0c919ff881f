"""A writer's private folder under `tmp/`: files are built there and moved into place whole (spec §8)."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

from blake3 import blake3

from deltavcs.errors import ConflictError, NotFoundError
from deltavcs.storage.file_calls import translate_os_errors, write_all
from deltavcs.storage.local_storage import LocalStorage


class NewFile:
    """A file being written: appended to, patched, then published."""

    def __init__(self, storage: LocalStorage, path: Path) -> None:
        self._storage = storage
        self.path = path
        self.size = 0
        with translate_os_errors(f"cannot create {path}"):
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Write `data` at the end."""
        with translate_os_errors(f"cannot write {self.path}"):
            self._storage.step("append", self.path.name)
            write_all(self._fd, data, self.size)
        self.size += len(data)

    def patch(self, start: int, data: bytes) -> None:
        """Overwrite what was appended at `start`."""
        with translate_os_errors(f"cannot write {self.path}"):
            write_all(self._fd, data, start)

    def hash(self) -> str:
        """BLAKE3-256 of the whole file, in hex."""
        # Mapped, on all cores: nobody but this process writes here.
        with translate_os_errors(f"cannot read {self.path}"):
            return blake3(max_threads=blake3.AUTO).update_mmap(self.path).hexdigest()

    def publish(self, key: str) -> None:
        """Make the bytes durable and move them to `key`, replacing what is there."""
        target = self._storage.path(key)
        with translate_os_errors(f"cannot write {target}"):
            self._storage.step("write", key)
            if self._storage.sync:
                os.fsync(self._fd)
            self.close()
            self._storage.step("rename", key)
            self._storage.make_directory(target.parent)
            self.path.replace(target)
            self._storage.step("sync", key)
            self._storage.sync_names(target.parent)

    def close(self) -> None:
        """Close without publishing. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Workspace:
    """A locked folder below `tmp/`, gone when the context ends; dead writers' folders are swept on entry."""

    def __init__(self, storage: LocalStorage) -> None:
        self._storage = storage
        self._name = f"writer-{os.urandom(8).hex()}"
        self._stack = contextlib.ExitStack()
        self._files: list[NewFile] = []

    def create(self, name: str) -> NewFile:
        """Start a file. `name` is unique within this workspace."""
        file = NewFile(self._storage, self._storage.path(f"tmp/{self._name}/{name}"))
        self._files.append(file)
        return file

    def folder(self, name: str) -> Path:
        """Make a folder for other files. `name` is unique within this workspace."""
        path = self._storage.path(f"tmp/{self._name}/{name}")
        with translate_os_errors(f"cannot create {path}"):
            path.mkdir()
        return path

    def __enter__(self) -> Self:
        sweep(self._storage)
        try:
            with translate_os_errors(f"cannot write below {self._storage.root}"):
                self._storage.step("mkdir", f"tmp/{self._name}")
                self._stack.enter_context(self._storage.lock(f"tmp/{self._name}/lock"))
        except BaseException:  # an interrupt on the way in: nobody would call __exit__
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for file in self._files:
                file.close()
        finally:
            self._remove()

    def _remove(self) -> None:
        folder = self._storage.path(f"tmp/{self._name}")
        try:
            shutil.rmtree(folder, ignore_errors=True)
        finally:  # an interrupt may come in the middle of it
            shutil.rmtree(folder, ignore_errors=True)
            self._stack.close()


def sweep(storage: LocalStorage) -> None:
    """Remove what dead writers left: files and folders of `tmp/` whose lock can be taken."""
    top = storage.root / "tmp"
    if not top.is_dir():
        return
    for path in [*top.glob("writer-*"), *top.glob("put-*")]:
        # A folder without its lock file is dead too: killed before it made one, or while it was removed.
        # A writer that is just being born notices that its lock is gone, and makes another.
        if not path.exists():
            continue
        folder = path.name.startswith("writer-")
        key = f"tmp/{path.name}/lock" if folder else f"tmp/{path.name}"
        with contextlib.suppress(ConflictError, NotFoundError), storage.lock(key, wait=False):
            if folder:
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
