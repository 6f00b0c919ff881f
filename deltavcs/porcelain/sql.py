"""Questions to the lineage index."""

from __future__ import annotations

from deltavcs.index.statement import QueryResult as QueryResult
from deltavcs.index.statement import query
from deltavcs.repo import Repository


def sql(repo: Repository, statement: str, *, max_rows: int | None = None) -> QueryResult:
    """Run one statement that only reads.

    Raises:
        InvalidInputError: `bad-sql`.
        ConflictError: `locked` if another process keeps the index open.
    """
    return query(repo.index, statement, max_rows=max_rows)
