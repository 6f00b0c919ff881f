"""Carrying out a plan in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeVar

from deltavcs.index import tables as r
from deltavcs.index.bulk import BulkLoader, with_ids
from deltavcs.index.changes import IndexPlan, split_ref
from deltavcs.index.inputs import ObjectReader
from deltavcs.index.tables import Row
from deltavcs.objects.model import Manifest, Score, Stats
from deltavcs.oid import CommitId, ManifestId, PackId
from deltavcs.pool import Pool

if TYPE_CHECKING:
    import duckdb

_BATCH = 1024
_PER_TASK = 32
# A question costs 2 ms; after this many, all answers are fetched at once (40 ms at 100,000 commits).
_FEW_QUESTIONS = 16
In = TypeVar("In")
Id = TypeVar("Id", bound=str)
Out = TypeVar("Out")
Report = Callable[[int], None]


class StoredState:
    """What an open index holds: the `IndexState` of a plan."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self.refs: Mapping[str, str] = stored_refs(connection)
        self._n_asked = 0
        self._all: dict[CommitId, int] | None = None

    @property
    def packs(self) -> frozenset[PackId]:
        """Packs it has read."""
        return frozenset(PackId(row[0]) for row in self._connection.execute("FROM packs").fetchall())

    def generations(self, commits: Collection[CommitId]) -> dict[CommitId, int]:
        """Generation of those of `commits` that it holds."""
        self._n_asked += 1
        if self._n_asked > _FEW_QUESTIONS and self._all is None:
            rows = self._connection.execute('SELECT "commit", generation FROM commits').fetchall()
            self._all = dict(rows)
        if self._all is not None:
            return {c: self._all[c] for c in commits if c in self._all}
        sql = 'SELECT "commit", generation FROM commits WHERE "commit" IN (SELECT id FROM dvx_source)'
        return {CommitId(c): g for c, g in with_ids(self._connection, commits, sql)}

    def parents(self) -> dict[CommitId, list[CommitId]]:
        """Parents of every commit that it holds."""
        out: dict[CommitId, list[CommitId]] = {
            CommitId(c): [] for (c,) in self._connection.execute('SELECT "commit" FROM commits').fetchall()
        }
        for child, parent in self._connection.execute("SELECT child, parent FROM edges").fetchall():
            out[child].append(parent)
        return out


def stored_refs(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """The refs that an index was derived from."""
    return dict(connection.execute("SELECT ref, target FROM refs").fetchall())


def write_plan(
    connection: duckdb.DuckDBPyConnection, plan: IndexPlan, objects: ObjectReader, pool: Pool, report: Report
) -> None:
    """Make the index what its repository is. All or nothing.

    `report` is told how many of the plan's commits are done.
    """
    connection.execute("BEGIN")
    try:
        if plan.removed:
            _remove_commits(connection, plan.removed)
        loader = BulkLoader(connection)
        _write_commits(connection, loader, plan, objects, pool, report)
        _write_refs(connection, loader, plan, objects, pool)
        loader.flush()
        _write_packs(connection, loader, plan, objects, pool)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _remove_commits(connection: duckdb.DuckDBPyConnection, removed: Collection[CommitId]) -> None:
    for table, column in (("commits", "commit"), ("edges", "child"), ("metadata", "commit")):
        with_ids(connection, removed, f'DELETE FROM {table} WHERE "{column}" IN (SELECT id FROM dvx_source)')
    for table in ("manifests", "manifest_tensors", "manifest_files"):
        connection.execute(f"DELETE FROM {table} WHERE manifest NOT IN (SELECT manifest FROM commits)")
    connection.execute(
        "DELETE FROM tensor_stats WHERE stats NOT IN (SELECT stats FROM commits WHERE stats IS NOT NULL)"
    )


def _write_commits(
    connection: duckdb.DuckDBPyConnection,
    loader: BulkLoader,
    plan: IndexPlan,
    objects: ObjectReader,
    pool: Pool,
    report: Report,
) -> None:
    if not plan.added:
        return
    manifests = {c.manifest for c in plan.added.values()}
    manifests -= _present(connection, "manifests", "manifest", manifests)
    stats = {c.stats for c in plan.added.values() if c.stats is not None}
    stats -= _present(connection, "tensor_stats", "stats", stats)
    done = 0
    for batch in _batches(plan.added.items()):
        for commit_id, commit in batch:
            loader.add(r.commit_rows(commit_id, commit, plan.generations[commit_id]))
        # In the order of the commits, so that what one read needs lies together on disk.
        news = [m for m in dict.fromkeys(c.manifest for _, c in batch) if m in manifests]
        manifests.difference_update(news)
        _load(loader, pool, news, _manifest_reader(objects))
        news_stats = [s for s in dict.fromkeys(c.stats for _, c in batch) if s is not None and s in stats]
        stats.difference_update(news_stats)
        _load(loader, pool, news_stats, _stats_reader(objects))
        done += len(batch)
        report(done)


def _manifest_reader(objects: ObjectReader) -> Callable[[ManifestId], list[tuple[str, Row]]]:
    def read(manifest_id: ManifestId) -> list[tuple[str, Row]]:
        manifest: Manifest = objects.get_manifest(manifest_id)
        return list(r.manifest_rows(manifest_id, manifest))

    return read


def _stats_reader(objects: ObjectReader) -> Callable[[str], list[tuple[str, Row]]]:
    def read(stats_id: str) -> list[tuple[str, Row]]:
        stats: Stats = objects.get_stats(stats_id)
        return list(r.stats_rows(stats_id, stats))

    return read


def _load(
    loader: BulkLoader, pool: Pool, items: Iterable[In], read: Callable[[In], Iterable[tuple[str, Row]]]
) -> None:
    # Several at a time: handing one object to a thread costs as much as parsing a small one.
    for found in pool.map(lambda some: [read(item) for item in some], _batches(items, _PER_TASK)):
        for one in found:
            loader.add(one)


def _present(connection: duckdb.DuckDBPyConnection, table: str, column: str, ids: set[Id]) -> set[Id]:
    sql = f"SELECT DISTINCT {column} FROM {table} WHERE {column} IN (SELECT id FROM dvx_source)"
    return {row[0] for row in with_ids(connection, ids, sql)}


def _write_refs(
    connection: duckdb.DuckDBPyConnection,
    loader: BulkLoader,
    plan: IndexPlan,
    objects: ObjectReader,
    pool: Pool,
) -> None:
    before = stored_refs(connection)
    gone = [ref for ref, target in before.items() if plan.refs.get(ref) != target]
    if gone:
        for table in ("refs", "scores"):
            with_ids(connection, gone, f"DELETE FROM {table} WHERE ref IN (SELECT id FROM dvx_source)")
    new = {ref: target for ref, target in plan.refs.items() if before.get(ref) != target}
    loader.add(("refs", r.ref_row(ref, target)) for ref, target in new.items())

    def read(item: tuple[str, str]) -> list[tuple[str, Row]]:
        score: Score = objects.get_score(item[1])
        return list(r.score_rows(*item, score))

    _load(loader, pool, [x for x in sorted(new.items()) if split_ref(x[0])[0] == "score"], read)


def _write_packs(
    connection: duckdb.DuckDBPyConnection,
    loader: BulkLoader,
    plan: IndexPlan,
    objects: ObjectReader,
    pool: Pool,
) -> None:
    touched: list[str] = []
    if plan.gone_packs:
        sql = "SELECT DISTINCT blob FROM blobs WHERE pack IN (SELECT id FROM dvx_source)"
        touched = [row[0] for row in with_ids(connection, plan.gone_packs, sql)]
        for table in ("blobs", "packs"):
            sql = f"DELETE FROM {table} WHERE pack IN (SELECT id FROM dvx_source)"
            with_ids(connection, plan.gone_packs, sql)

    def read(pack_id: PackId) -> tuple[Row, list[list[object]]]:
        return r.pack_columns(pack_id, objects.packs.records(pack_id))

    for batch in _batches(pool.map(read, sorted(plan.new_packs))):
        loader.add(("packs", row) for row, _ in batch)
        columns = [list(chain.from_iterable(parts)) for parts in zip(*(c for _, c in batch), strict=True)]
        loader.columns("blobs", [*columns, [True] * len(columns[0])])
    loader.flush()
    if plan.new_packs:
        # Of blobs stored once nothing is to choose.
        touched += [row[0] for row in with_ids(connection, plan.new_packs, _SEVERAL)]
    if touched:
        with_ids(connection, touched, _PREFER)


_SEVERAL = """
SELECT blob FROM blobs
SEMI JOIN (SELECT blob FROM blobs WHERE pack IN (SELECT id FROM dvx_source)) USING (blob)
GROUP BY blob HAVING count(*) > 1
"""

_PREFER = """
UPDATE blobs SET preferred = (blobs.pack = best.pack)
FROM (SELECT blob, arg_min(pack, (stored_bytes, pack)) AS pack FROM blobs
      WHERE blob IN (SELECT id FROM dvx_source) GROUP BY blob) best
WHERE blobs.blob = best.blob
"""


def _batches(items: Iterable[In], size: int = _BATCH) -> Iterator[list[In]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
