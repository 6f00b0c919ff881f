"""The user's SQL: one read-only statement, without files, network or extensions, within limits."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deltavcs.advice import Advice
from deltavcs.brief import brief
from deltavcs.errors import DeltaVCSError, ErrorKind, InvalidInputError
from deltavcs.index.database import is_damage, load_duckdb

if TYPE_CHECKING:
    import duckdb

    from deltavcs.index.lineage_index import LineageIndex

DEFAULT_TIMEOUT_S = 60.0
_READING = ("SELECT", "EXPLAIN")


@dataclass(frozen=True, slots=True)
class QueryResult:
    """Rows of a query.

    Attributes:
        columns: names.
        types: DuckDB's names of their types.
        rows: Python values.
        truncated: True if there were more rows than asked for.
    """

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    truncated: bool = False

    __repr__ = brief


def query(
    index: LineageIndex,
    sql: str,
    params: Sequence[object] = (),
    *,
    max_rows: int | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> QueryResult:
    """Run one statement that only reads, on an index that has caught up.

    Raises:
        InvalidInputError: `bad-sql` with DuckDB's message in one line: a syntax error, an unknown name,
            anything but a single SELECT or EXPLAIN, a file or an extension, too slow, too much memory.
        ConflictError: `locked`.
    """
    return index.read(lambda connection: _run(connection, sql, params, max_rows, timeout_s))


def _run(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    params: Sequence[object],
    max_rows: int | None,
    timeout_s: float,
) -> QueryResult:
    engine = load_duckdb()
    try:
        _check(connection, sql)
        with _interrupted_after(connection, timeout_s):
            cursor = connection.execute(sql, list(params))
            columns = cursor.description or []
            rows = cursor.fetchall() if max_rows is None else cursor.fetchmany(max_rows + 1)
    except engine.InterruptException as exc:
        raise _bad(f"the query took longer than {timeout_s:g} seconds") from exc
    except engine.OutOfMemoryException as exc:
        raise _bad("the query needs more memory than it may use", Advice.NARROW_QUERY) from exc
    except (engine.Error, OverflowError, ValueError) as exc:
        # ValueError: values that Python has no type for, such as the year 290000.
        if is_damage(exc) or isinstance(exc, DeltaVCSError):
            raise
        raise _bad(one_line(str(exc))) from exc
    truncated = max_rows is not None and len(rows) > max_rows
    names, types = tuple(c[0] for c in columns), tuple(str(c[1]) for c in columns)
    return QueryResult(names, types, rows[:max_rows], truncated)


def _check(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    statements = connection.extract_statements(sql)
    if not statements:
        raise InvalidInputError("SQL: there is no statement", kind=ErrorKind.BAD_SQL)
    if len(statements) != 1:
        raise _bad(f"one statement is needed, there are {len(statements)}", Advice.ONE_BY_ONE)
    kind = statements[0].type.name
    if kind not in _READING:
        raise _bad(f"{kind} is not allowed: the index is read-only and derived")


@contextmanager
def _interrupted_after(connection: duckdb.DuckDBPyConnection, timeout_s: float) -> Iterator[None]:
    timer = threading.Timer(timeout_s, connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def one_line(message: str) -> str:
    """DuckDB's message without its drawing of the statement."""
    parts = []
    for line in message.splitlines():
        if line.startswith("LINE "):
            break
        if line.strip():
            parts.append(line.strip())
    return " ".join(parts)


def _bad(message: str, advice: Advice | None = None) -> InvalidInputError:
    return InvalidInputError(f"SQL: {message}", kind=ErrorKind.BAD_SQL, advice=advice)
