"""Questions to the lineage index."""

from __future__ import annotations

from deltavcs.index.statement import QueryResult as QueryResult
from deltavcs.index.statement import query
from deltavcs.repo import Repository


def sql(repo: Repository, statement: str, *, max_rows: int | None = None) -> QueryResult:
    """Run one SELECT on the lineage index, which is brought up to date first.

    Args:
        statement: in DuckDB's SQL; tables and views are those of `docs/sql.md`.
        max_rows: at most so many; None for all.

    Raises:
        InvalidInputError: `bad-sql` with DuckDB's reason: also for anything but a SELECT, or one that takes
            too long.
        ConflictError: `locked` if another process keeps the index open.
    """
    return query(repo.index, statement, max_rows=max_rows)
