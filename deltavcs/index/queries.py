"""Named queries: what the read verbs ask the index. Each catches up first and returns plain values."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deltavcs.index.bulk import with_columns, with_ids
from deltavcs.oid import CommitId

if TYPE_CHECKING:
    import duckdb

    from deltavcs.index.lineage_index import LineageIndex

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Edge:
    """A parent and a child. `names` are the child's branches and tags, or None."""

    parent: CommitId
    child: CommitId
    role: str
    names: str | None
    kind: str


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """What a commit costs (view `disk_usage`).

    Attributes:
        unique_bytes: stored bytes of blobs that no other commit uses.
        shared_bytes: stored bytes of blobs that others use too.
    """

    commit: CommitId
    names: str | None
    raw_bytes: int
    unique_bytes: int
    shared_bytes: int
    n_blobs: int


@dataclass(frozen=True, slots=True)
class StorageTotals:
    """What the repository stores: every blob, and those that a commit uses, in their preferred form."""

    n_packs: int
    pack_bytes: int
    n_blobs: int
    used_bytes: int
    raw_bytes: int


def count_commits(index: LineageIndex) -> int:
    """Number of commits that a branch or a tag reaches."""
    return int(index.read(lambda c: c.execute("SELECT count(*) FROM commits").fetchall())[0][0])


def children_of(index: LineageIndex, commit: CommitId) -> list[Edge]:
    """Edges from a commit to its children, oldest child first."""
    return index.read(lambda c: _edges(c, [commit]))


def descendants(index: LineageIndex, commit: CommitId, *, limit: int | None = None) -> list[Edge]:
    """Every edge below a commit, nearest first.

    A child appears once per parent that is the commit or a descendant of it. With `limit`, at most that
    many children are followed.
    """
    return index.read(lambda c: _descendants(c, commit, limit))


def disk_usage(index: LineageIndex, commits: Collection[CommitId] | None = None) -> list[DiskUsage]:
    """What each commit costs, the most expensive first; all commits for None."""
    columns = '"commit", names, raw_bytes, unique_bytes, shared_bytes, n_blobs'
    order = 'ORDER BY unique_bytes DESC, "commit"'
    if commits is None:
        rows = index.read(lambda c: c.execute(f"SELECT {columns} FROM disk_usage {order}").fetchall())
    else:
        rows = index.read(lambda c: with_ids(c, commits, _DISK_USAGE))
    return [DiskUsage(*row) for row in rows]


def storage_totals(index: LineageIndex) -> StorageTotals:
    """What all packs hold, and how much of it commits use."""
    return StorageTotals(*index.read(lambda c: c.execute(_TOTALS).fetchall())[0])


def _edges(connection: duckdb.DuckDBPyConnection, parents: Collection[CommitId]) -> list[Edge]:
    return [Edge(*row) for row in with_ids(connection, parents, _CHILDREN)]


def _descendants(connection: duckdb.DuckDBPyConnection, commit: CommitId, limit: int | None) -> list[Edge]:
    # A recursive CTE takes milliseconds a generation, and runs are hundreds long. Number the commits,
    # walk in numpy, then fetch the edges that were met.
    numbered = connection.execute(_NUMBERED).fetchnumpy()
    child, parent = _ints(numbered["child"]), _ints(numbered["parent"])
    start = connection.execute('SELECT rowid FROM commits WHERE "commit" = ?', [commit]).fetchall()
    if not start:
        return []
    order = np.argsort(parent, kind="stable")
    found = _walk(child[order], parent[order], int(start[0][0]), limit)
    rows = order[found]
    return _fetch_edges(connection, _ints(numbered["edge"])[rows])


def _ints(values: Any) -> Ints:
    return np.asarray(values, dtype=np.int64)


def _walk(child: Ints, parent: Ints, start: int, limit: int | None) -> Ints:
    """Positions of the edges below `start`, breadth first; edges are sorted by parent."""
    seen = {start}
    front = _ints([start])
    out: list[Ints] = []
    while len(front):
        low, high = np.searchsorted(parent, front, "left"), np.searchsorted(parent, front, "right")
        edges = np.concatenate([np.arange(a, b) for a, b in zip(low, high, strict=True)])
        out.append(edges)
        new = [c for c in dict.fromkeys(child[edges].tolist()) if c not in seen]
        if limit is not None:
            new = new[: max(0, limit + 1 - len(seen))]
        seen.update(new)
        front = _ints(new)
    kept = np.concatenate(out)
    mask = np.fromiter((c in seen for c in child[kept].tolist()), dtype=np.bool_, count=len(kept))
    return kept[mask]


def _fetch_edges(connection: duckdb.DuckDBPyConnection, rows: Ints) -> list[Edge]:
    data = {"edge": rows, "at": np.arange(len(rows), dtype=np.int64)}
    return [Edge(*row) for row in with_columns(connection, data, _EDGES_BY_NUMBER)]


_CHILDREN = """
SELECT e.parent, e.child, e.role, n.names, c.kind
FROM edges e JOIN commits c ON c."commit" = e.child LEFT JOIN names n ON n."commit" = e.child
WHERE e.parent IN (SELECT id FROM dvx_source)
ORDER BY c.time_us, e.child, e.position
"""

_NUMBERED = """
SELECT e.rowid AS edge, c.rowid AS child, p.rowid AS parent
FROM edges e JOIN commits c ON c."commit" = e.child JOIN commits p ON p."commit" = e.parent
ORDER BY c.time_us, e.child, e.position
"""

_EDGES_BY_NUMBER = """
SELECT e.parent, e.child, e.role, n.names, c.kind
FROM dvx_source s JOIN edges e ON e.rowid = s.edge JOIN commits c ON c."commit" = e.child
LEFT JOIN names n ON n."commit" = e.child
ORDER BY s.at
"""

# The view `disk_usage` counts the users of every blob; this counts only those of the blobs asked for.
_DISK_USAGE = """
WITH wanted AS (
    SELECT "commit", manifest FROM commits WHERE "commit" IN (SELECT id FROM dvx_source)
), mine AS (
    SELECT DISTINCT manifest, blob FROM manifest_tensors SEMI JOIN wanted USING (manifest)
    UNION SELECT manifest, blob FROM manifest_files SEMI JOIN wanted USING (manifest)
), users AS (
    SELECT manifest, blob FROM manifest_tensors SEMI JOIN mine USING (blob)
    UNION SELECT manifest, blob FROM manifest_files SEMI JOIN mine USING (blob)
), uses AS (
    SELECT u.blob, count(*) AS n_commits FROM users u JOIN commits c USING (manifest) GROUP BY u.blob
), sums AS (
    SELECT mine.manifest, count(*) AS n_blobs,
           coalesce(sum(b.stored_bytes) FILTER (u.n_commits = 1), 0)::BIGINT AS unique_bytes,
           coalesce(sum(b.stored_bytes) FILTER (u.n_commits > 1), 0)::BIGINT AS shared_bytes
    FROM mine JOIN uses u USING (blob) LEFT JOIN blobs b ON b.blob = mine.blob AND b.preferred
    GROUP BY mine.manifest
)
SELECT w."commit", n.names, m.raw_bytes, s.unique_bytes, s.shared_bytes, s.n_blobs
FROM wanted w JOIN manifests m USING (manifest) JOIN sums s USING (manifest)
LEFT JOIN names n USING ("commit")
ORDER BY s.unique_bytes DESC, w."commit"
"""

_TOTALS = """
SELECT (SELECT count(*) FROM packs), (SELECT coalesce(sum(stored_bytes), 0)::BIGINT FROM packs),
       count(*), coalesce(sum(b.stored_bytes) FILTER (u.blob IS NOT NULL), 0)::BIGINT,
       coalesce(sum(b.raw_bytes) FILTER (u.blob IS NOT NULL), 0)::BIGINT
FROM blobs b LEFT JOIN (SELECT DISTINCT blob FROM manifest_blobs) u USING (blob) WHERE b.preferred
"""
