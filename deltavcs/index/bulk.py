"""Bulk loading: rows gathered per table and handed to DuckDB as numpy columns.

`executemany` takes milliseconds a row in DuckDB; registering columns takes 2 µs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deltavcs.index.tables import Row

if TYPE_CHECKING:
    import duckdb

_FLUSH_ROWS = 50_000
_SOURCE = "dvx_source"
_DTYPES: dict[str, Any] = {"VARCHAR": object, "BIGINT": np.int64, "INTEGER": np.int64, "BOOLEAN": np.bool_}


class BulkLoader:
    """Inserts rows in bulk. `flush` writes what is still gathered."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._rows: dict[str, list[Row]] = {}
        self._types: dict[str, dict[str, str]] = {}

    def add(self, rows: Iterable[tuple[str, Row]]) -> None:
        """Gather (table, row) pairs; write a table's rows when there are many."""
        for table, row in rows:
            gathered = self._rows.setdefault(table, [])
            gathered.append(row)
            if len(gathered) >= _FLUSH_ROWS:
                self._write(table)

    def flush(self) -> None:
        """Write everything gathered."""
        for table in list(self._rows):
            self._write(table)

    def _write(self, table: str) -> None:
        rows = self._rows.pop(table)
        self.columns(table, [list(column) for column in zip(*rows, strict=True)])

    def columns(self, table: str, columns: list[list[Any]]) -> None:
        """Insert columns into a table now."""
        if table not in self._types:
            described = self._connection.execute(f'DESCRIBE "{table}"').fetchall()
            self._types[table] = {row[0]: row[1] for row in described}
        types = self._types[table]
        data = {
            name: _column(values, kind) for (name, kind), values in zip(types.items(), columns, strict=True)
        }
        with_columns(self._connection, data, f'INSERT INTO "{table}" SELECT * FROM {_SOURCE}')


def with_columns(connection: duckdb.DuckDBPyConnection, data: dict[str, Any], sql: str) -> list[Row]:
    """Run a statement that may read the columns `data` as the table `dvx_source`."""
    connection.register(_SOURCE, data)
    try:
        result: list[Row] = connection.execute(sql).fetchall()
    finally:
        connection.unregister(_SOURCE)
    return result


def with_ids(connection: duckdb.DuckDBPyConnection, ids: Collection[str], sql: str) -> list[Row]:
    """Run a statement that may read `ids` as the column `id` of the table `dvx_source`."""
    return with_columns(connection, {"id": _column(list(ids), "VARCHAR")}, sql)


def _column(values: list[Any], kind: str) -> npt.NDArray[Any]:
    dtype = _DTYPES.get(kind, np.float64)
    if dtype is object:
        out = np.empty(len(values), dtype=object)
        out[:] = values
        return out
    if None not in values:
        return np.array(values, dtype=dtype)
    mask = [v is None for v in values]
    return np.ma.masked_array(np.array([0 if v is None else v for v in values], dtype=dtype), mask=mask)
