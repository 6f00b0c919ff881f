"""Opening the DuckDB file: who may, for how long one waits, and what a refusal means."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltavcs.advice import Advice
from deltavcs.errors import ConflictError, ErrorKind, MissingDependencyError, StorageError, reason_of

if TYPE_CHECKING:
    import duckdb

MEMORY_LIMIT = "1GiB"
_FIRST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.1

# DuckDB tells these apart only in its messages; tests pin each against the installed version.
_LOCKED = ("Could not set lock", "different configuration", "already attached", "Unique file handle")
_DENIED = ("Permission denied", "Read-only file system", "Operation not permitted")
_FULL = ("No space left", "Disk quota exceeded", "File too large")
_DAMAGED = ("Corrupt database file", "Could not read enough bytes", "not a valid DuckDB database")


class UnusableDatabase(Exception):
    """The file is absent, damaged or of another version: derive it anew. Never leaves this package."""


def load_duckdb() -> Any:
    """Import DuckDB.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import duckdb
    except ImportError as exc:
        raise MissingDependencyError(
            "the lineage index needs DuckDB", kind=ErrorKind.MISSING_PACKAGE, facts={"package": "duckdb"}
        ) from exc
    return duckdb


def is_damage(error: BaseException) -> bool:
    """True if an error of DuckDB says that the file itself is broken."""
    return any(text in str(error) for text in _DAMAGED)


@contextlib.contextmanager
def open_database(
    path: Path | None, *, write: bool, wait_s: float, threads: int
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the file, or a database in memory for None; close it at the end.

    While one process has it open for writing, no other can open it at all; while one reads, none can
    write. So a refusal is waited out for `wait_s`, and nobody keeps it open longer than a statement takes.

    Raises:
        UnusableDatabase: there is no such file, or it is not a database this DuckDB reads.
        ConflictError: `locked`.
        StorageError: `permission-denied` or `disk-full`.
    """
    if path is not None and not path.is_file() and not write:
        raise UnusableDatabase("absent")
    connection = _connect(path, write=write, wait_s=wait_s, threads=threads)
    try:
        yield connection
    finally:
        connection.close()


def _connect(path: Path | None, *, write: bool, wait_s: float, threads: int) -> duckdb.DuckDBPyConnection:
    engine = load_duckdb()
    read_only = not write and path is not None
    config = _config(threads, read_only=read_only)
    deadline = time.monotonic() + wait_s
    pause = _FIRST_PAUSE_S
    while True:
        try:
            connection: duckdb.DuckDBPyConnection = engine.connect(
                ":memory:" if path is None else str(path), read_only=read_only, config=config
            )
            return connection
        except engine.Error as exc:
            if not any(text in str(exc) for text in _LOCKED):
                raise refusal(exc) from exc
            if time.monotonic() + pause > deadline:
                raise locked() from exc
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def _config(threads: int, *, read_only: bool) -> dict[str, str]:
    # Read connections run the user's SQL: no files, no network, no extensions, no way back. All of a
    # process share one configuration, since DuckDB refuses to open a file twice under different ones.
    config = {
        "enable_external_access": "false",
        "autoload_known_extensions": "false",
        "autoinstall_known_extensions": "false",
        "python_enable_replacements": "false",
        "memory_limit": MEMORY_LIMIT,
        "threads": str(max(1, threads)),
        "lock_configuration": "true",
    }
    # A query that outgrows the memory limit fails rather than fill the disk; an update may spill.
    return {**config, "temp_directory": ""} if read_only else {**config, "preserve_insertion_order": "false"}


def refusal(error: Exception) -> Exception:
    """The error to raise for one that DuckDB gave on opening or writing the file."""
    text = str(error)
    if any(x in text for x in _DENIED):
        return StorageError(
            "cannot write the lineage index: permission denied",
            kind=ErrorKind.PERMISSION_DENIED,
            advice=Advice.PERMIT_INDEX,
        )
    if any(x in text for x in _FULL):
        return StorageError(
            "cannot write the lineage index: no space left",
            kind=ErrorKind.DISK_FULL,
            advice=Advice.FREE_SPACE_FOR_INDEX,
            retryable=True,
        )
    return UnusableDatabase(reason_of(error))


def locked() -> ConflictError:
    """The error for an index that another process keeps."""
    return ConflictError(
        "another process is using the lineage index",
        kind=ErrorKind.LOCKED,
        advice=Advice.WAIT_FOR_INDEX,
    )
