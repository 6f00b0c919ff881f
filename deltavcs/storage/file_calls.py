"""File primitives: reading ranges, syncing, and turning OSError into errors that say what to do."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from deltavcs.advice import Advice
from deltavcs.errors import DeltaVCSError, ErrorKind, IntegrityError, NotFoundError, StorageError
from deltavcs.resources import Scratch

_FULL = {errno.ENOSPC: None, errno.EDQUOT: Advice.FREE_QUOTA, errno.EFBIG: Advice.RAISE_FILE_LIMIT}
# A file system with large folios asks for as much contiguous memory as one write has bytes: above this, only
# memory that nobody used for long is contiguous, and a hypervisor may have taken that away meanwhile.
_WRITE_BYTES = 1 << 18
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextlib.contextmanager
def translate_os_errors(what: str) -> Iterator[None]:
    """Turn an OSError of the block into a DeltaVCSError whose message begins with `what`.

    Raises:
        NotFoundError: `unknown-object` for a file that is not there.
        StorageError: `disk-full`, `permission-denied` or `io`.
    """
    try:
        yield
    except DeltaVCSError:
        raise
    except OSError as exc:
        raise os_error(what, exc) from exc


def os_error(what: str, exc: OSError) -> DeltaVCSError:
    """The DeltaVCSError for an OSError."""
    message = f"{what}: {exc.strerror or exc}"
    if isinstance(exc, FileNotFoundError):
        return NotFoundError(message, kind=ErrorKind.UNKNOWN_OBJECT)
    if exc.errno is not None and exc.errno in _FULL:
        return StorageError(
            message,
            kind=ErrorKind.DISK_FULL,
            advice=_FULL[exc.errno],
            retryable=True,
        )
    if exc.errno in _DENIED:
        return StorageError(message, kind=ErrorKind.PERMISSION_DENIED)
    return StorageError(message, kind=ErrorKind.IO, retryable=True)


class FileReader:
    """Random access to one file, safe to use from many threads.

    Reads with pread rather than through a mapping: a file that is truncated while it is read then
    gives an error instead of killing the process with SIGBUS.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        with translate_os_errors(f"cannot open {path}"):
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._fd).st_size

    def read_into(self, start: int, out: memoryview) -> None:
        """Fill `out` with the bytes from `start` on.

        Raises:
            IntegrityError: `truncated` if the file ends before.
            StorageError: the disk failed.
        """
        done = 0
        while done < len(out):
            try:
                got = os.preadv(self._fd, [out[done:]], start + done)
            except OSError as exc:
                raise os_error(f"cannot read {self.path}", exc) from exc
            if not got:
                raise IntegrityError(
                    f"{self.path} ends at {start + done} bytes, {len(out) - done} bytes early",
                    kind=ErrorKind.TRUNCATED,
                )
            done += got

    def read(self, start: int, n_bytes: int) -> bytearray:
        """Return `n_bytes` from `start` on. Raises as `read_into` does; checks the length first."""
        self._check(start, n_bytes)
        out = bytearray(n_bytes)
        self.read_into(start, memoryview(out))
        return out

    def borrow(self, start: int, n_bytes: int, scratch: Scratch) -> memoryview:
        """As `read`, into memory of `scratch`."""
        self._check(start, n_bytes)
        out = scratch.take(n_bytes)
        self.read_into(start, out)
        return out

    def _check(self, start: int, n_bytes: int) -> None:
        if start < 0 or n_bytes < 0 or start + n_bytes > self.size:
            raise IntegrityError(
                f"{self.path} has {self.size} bytes; {start + n_bytes} are needed", kind=ErrorKind.TRUNCATED
            )

    def fileno(self) -> int:
        """The open file; valid as long as this object is."""
        return self._fd

    def stamp(self) -> tuple[int, int, int]:
        """What changes when the file is written to: size, modification time, inode."""
        stat = os.fstat(self._fd)
        return stat.st_size, stat.st_mtime_ns, stat.st_ino

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def write_all(fd: int, data: bytes | bytearray | memoryview, start: int) -> None:
    """Write all of `data` at offset `start`."""
    view = memoryview(data).cast("B") if not isinstance(data, bytes | bytearray) else memoryview(data)
    done = 0
    while done < len(view):
        done += os.pwrite(fd, view[done : done + _WRITE_BYTES], start + done)


def _find_fallocate() -> Callable[[int, int, int, int], int] | None:
    """The C library's call with 64-bit offsets, on Linux."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None, use_errno=True)
    # musl has 64-bit offsets in every call, and in newer versions no second name for them.
    found = getattr(library, "fallocate64", None) or getattr(library, "fallocate", None)
    if found is not None:
        found.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return found


_fallocate = _find_fallocate()
_FALLOC_FL_KEEP_SIZE = 1


def reserve(fd: int, n_bytes: int) -> None:
    """Find room on the disk for a new file of `n_bytes` at once, where the system can do that.

    The file's length grows with what is written: a file that is whole by its length but was not written to
    the end is what a power failure must not leave. It only saves time: what fails for another reason than
    room, or is interrupted, is left to the writes.

    Raises:
        ValueError: no descriptor, or no bytes.
        OSError: the disk, a quota or a limit on file sizes is too small for it.
    """
    if fd < 0 or n_bytes <= 0:
        raise ValueError(f"{n_bytes} bytes of file {fd} do not fit")
    if _fallocate is not None and _fallocate(fd, _FALLOC_FL_KEEP_SIZE, 0, n_bytes):
        number = ctypes.get_errno()
        if number in _FULL:
            raise OSError(number, os.strerror(number))


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
