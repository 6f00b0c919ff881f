"""The lineage index: a DuckDB database derived from objects and refs. Delete it and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from deltavcs.config import CACHEDIR_TAG, CACHEDIR_TAG_KEY
from deltavcs.errors import ConflictError, ErrorKind, StorageError
from deltavcs.index import migrate
from deltavcs.index.apply import StoredState, stored_refs, write_plan
from deltavcs.index.changes import IndexPlan, make_plan
from deltavcs.index.database import UnusableDatabase, is_damage, load_duckdb, locked, open_database, refusal
from deltavcs.index.inputs import ObjectReader, RefReader
from deltavcs.index.leftovers import move_aside, sweep, wal_of
from deltavcs.pool import Pool
from deltavcs.resources import Resources
from deltavcs.storage import LocalStorage, translate_os_errors

if TYPE_CHECKING:
    import duckdb

DATABASE_KEY = "index/lineage.duckdb"
LOCK_KEY = "locks/lineage"
_PAUSE_S = 0.02
Out = TypeVar("Out")


class IndexOutcome(StrEnum):
    """What an update did."""

    CURRENT = "current"
    UPDATED = "updated"
    REBUILT = "rebuilt"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class CatchUp:
    """The result of an update.

    Attributes:
        n_added, n_removed: commits.
        moved_aside: where an unusable database was put, or None.
        reason: why it was skipped or rebuilt, or None.
    """

    outcome: IndexOutcome
    n_added: int = 0
    n_removed: int = 0
    moved_aside: Path | None = None
    reason: str | None = None


class LineageIndex:
    """Keeps the index equal to its repository and runs queries on it.

    Nothing stays open between calls. One object per thread; any number of objects and processes.

    Args:
        storage: the repository's directory.
        objects, refs: what the index is derived from.
        resources: threads, and the progress callback of a rebuild.
        wait_s: how long a call waits for another process that has the file open.
    """

    def __init__(
        self,
        storage: LocalStorage,
        objects: ObjectReader,
        refs: RefReader,
        *,
        resources: Resources | None = None,
        wait_s: float = 2.0,
    ) -> None:
        self._storage = storage
        self._objects = objects
        self._refs = refs
        self._resources = resources or Resources()
        self._wait_s = wait_s
        self.last = CatchUp(IndexOutcome.SKIPPED, reason="not tried yet")

    @property
    def path(self) -> Path:
        """The database file."""
        return self._storage.path(DATABASE_KEY)

    def catch_up(self, *, wait_s: float | None = None, packs: bool = False) -> CatchUp:
        """Add what is new, drop what no ref reaches any more. Idempotent; cheap if no ref moved.

        Skips, and says why, if others keep the file longer than `wait_s` or it cannot be written. A
        missing, damaged or foreign database is built anew. Packs are compared when a ref moved; say
        `packs=True` after a repack or a gc, which move none.

        Raises:
            DeltaVCSError: a commit, manifest or score that a ref reaches cannot be read; the index is
                as before.
        """
        patience = self._wait_s if wait_s is None else wait_s
        try:
            with contextlib.ExitStack() as stack:
                if not packs and self._open_current(stack, patience):
                    return self.last
            with _lock(self._storage, patience):
                self.last = self._update_or_rebuild(patience)
        except (ConflictError, StorageError) as exc:
            if exc.kind not in (ErrorKind.LOCKED, ErrorKind.PERMISSION_DENIED, ErrorKind.DISK_FULL):
                raise
            self.last = CatchUp(IndexOutcome.SKIPPED, reason=exc.message)
        return self.last

    def rebuild(self) -> CatchUp:
        """Derive the index anew, whatever state it is in. Readers see the old one until the end.

        Raises:
            StorageError: it cannot be written.
            DeltaVCSError: an object that a ref reaches cannot be read.
        """
        with self._storage.lock(LOCK_KEY):
            self.last = self._rebuild("asked for")
        return self.last

    @contextlib.contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-only connection to an index that is as the refs are.

        Where the file cannot be brought up to date (another process reads it, or it lies on a medium that
        cannot be written), the index is derived in memory: an old answer would be a wrong one.

        Raises:
            ConflictError: `locked` if another process keeps the file longer than `wait_s`.
        """
        with contextlib.ExitStack() as stack:
            connection = self._open_current(stack, self._wait_s)
            if connection is None:
                self.catch_up()
                connection = self._open_current(stack, self._wait_s) or self._derive(stack)
            yield connection

    def read(self, query: Callable[[duckdb.DuckDBPyConnection], Out]) -> Out:
        """Run `query` on a fresh connection; if the file proves damaged, rebuild it and run it again."""
        duckdb_error = load_duckdb().Error
        try:
            with self.connect() as connection:
                return query(connection)
        except duckdb_error as exc:
            if not is_damage(exc):
                raise
        with _lock(self._storage, self._wait_s):
            self.last = self._rebuild("damaged")
        with self.connect() as connection:
            return query(connection)

    def _open(
        self, path: Path | None, *, write: bool, wait_s: float
    ) -> contextlib.AbstractContextManager[duckdb.DuckDBPyConnection]:
        return open_database(path, write=write, wait_s=wait_s, threads=self._resources.threads)

    def _open_current(self, stack: contextlib.ExitStack, wait_s: float) -> duckdb.DuckDBPyConnection | None:
        """A read-only connection left open in `stack`, if the index is as the refs are."""
        with contextlib.ExitStack() as inner:
            try:
                connection = inner.enter_context(self._open(self.path, write=False, wait_s=wait_s))
                with _damage_is_unusable():
                    if migrate.pending(connection) or stored_refs(connection) != dict(self._refs.all()):
                        return None
            except UnusableDatabase:
                return None
            stack.push(inner.pop_all())
            self.last = CatchUp(IndexOutcome.CURRENT)
            return connection

    def _derive(self, stack: contextlib.ExitStack) -> duckdb.DuckDBPyConnection:
        """The index in memory."""
        connection = stack.enter_context(self._open(None, write=True, wait_s=0))
        self._fill(connection)
        return connection

    def _update_or_rebuild(self, wait_s: float) -> CatchUp:
        try:
            return self._update(wait_s)
        except UnusableDatabase as exc:
            return self._rebuild(str(exc))

    def _update(self, wait_s: float) -> CatchUp:
        with (
            Pool(self._resources) as pool,
            self._open(self.path, write=False, wait_s=wait_s) as connection,
            _damage_is_unusable(),
        ):
            steps = migrate.pending(connection)
            if not steps:
                stored = StoredState(connection)
                plan = make_plan(self._objects, self._refs.all(), stored, pool)
                if plan.refs == stored.refs and not plan.new_packs and not plan.gone_packs:
                    return CatchUp(IndexOutcome.CURRENT)
        if not steps:
            return self._write(plan, wait_s)
        with self._open(self.path, write=True, wait_s=wait_s) as connection, _damage_is_unusable():
            migrate.apply(connection, steps)
        return self._update(wait_s)

    def _write(self, plan: IndexPlan, wait_s: float) -> CatchUp:
        with (
            Pool(self._resources) as pool,
            self._open(self.path, write=True, wait_s=wait_s) as connection,
            _damage_is_unusable(),
        ):
            write_plan(connection, plan, self._objects, pool, lambda _: None)
        return CatchUp(IndexOutcome.UPDATED, n_added=len(plan.added), n_removed=len(plan.removed))

    def _rebuild(self, reason: str) -> CatchUp:
        """Build beside, then rename over. The caller holds the lock."""
        with translate_os_errors("cannot write the lineage index"):
            self._storage.step("write", DATABASE_KEY)
            self._storage.make_directory(self.path.parent)
            sweep(self.path)
        if not self._storage.exists(CACHEDIR_TAG_KEY):
            self._storage.put(CACHEDIR_TAG_KEY, CACHEDIR_TAG)
        new = self.path.with_name(f"new-{os.urandom(4).hex()}.duckdb")
        try:
            try:
                with self._open(new, write=True, wait_s=0) as connection:
                    n_added = self._fill(connection)
            except UnusableDatabase as exc:
                raise StorageError(f"cannot write the lineage index: {exc}", kind=ErrorKind.IO) from exc
            moved = None if reason in ("absent", "asked for") else move_aside(self.path)
            with translate_os_errors("cannot write the lineage index"):
                self._storage.step("rename", DATABASE_KEY)
                wal_of(self.path).unlink(missing_ok=True)
                new.replace(self.path)
        finally:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
                wal_of(new).unlink(missing_ok=True)
        return CatchUp(IndexOutcome.REBUILT, n_added=n_added, moved_aside=moved, reason=reason)

    def _fill(self, connection: duckdb.DuckDBPyConnection) -> int:
        with Pool(self._resources) as pool, _damage_is_unusable():
            migrate.create(connection)
            plan = make_plan(self._objects, self._refs.all(), StoredState(connection), pool)
            total = len(plan.added)
            write_plan(
                connection,
                plan,
                self._objects,
                pool,
                lambda done: self._resources.progress("index commits", done, total),
            )
        return total


@contextlib.contextmanager
def _lock(storage: LocalStorage, wait_s: float) -> Iterator[None]:
    """Hold the writers' lock; give up after `wait_s`."""
    deadline = time.monotonic() + wait_s
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(storage.lock(LOCK_KEY, wait=False))
                break
            except ConflictError as exc:
                if time.monotonic() > deadline:
                    raise locked() from exc
            time.sleep(_PAUSE_S)
        yield


@contextlib.contextmanager
def _damage_is_unusable() -> Iterator[None]:
    """Errors on our own statements mean that the file is not what this version wrote, or the disk full."""
    try:
        yield
    except load_duckdb().Error as exc:
        raise refusal(exc) from exc
