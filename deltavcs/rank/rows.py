"""Rows of a task, read from local files by DuckDB.

JSON lines are read as lines and parsed one by one, so that an error names its line and no value is coerced to
a type inferred from the other rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deltavcs.rank.template import bad_task

if TYPE_CHECKING:
    import duckdb

JSONL_SUFFIXES = (".jsonl", ".ndjson")
CSV_SUFFIXES = (".csv", ".tsv")
PARQUET_SUFFIXES = (".parquet",)
SUFFIXES = JSONL_SUFFIXES + CSV_SUFFIXES + PARQUET_SUFFIXES

_FETCH_ROWS = 2048
_DUCKDB_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    # Nothing is fetched or loaded because of what a file says.
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "threads": "1",
}


@dataclass(frozen=True, slots=True)
class RowLimits:
    """What is refused before it is read.

    Attributes:
        max_rows: rows per split.
        max_row_bytes: bytes of one JSON or CSV line.
        max_file_bytes: bytes of one file.
    """

    max_rows: int = 2_000_000
    max_row_bytes: int = 4 << 20
    max_file_bytes: int = 16 << 30


DEFAULT_LIMITS = RowLimits()


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row as it stands in its file.

    Attributes:
        origin: `FILE:LINE` for JSON lines, `FILE row N` (from 1, header not counted) otherwise.
        columns: the values, as Python objects.
    """

    origin: str
    columns: Mapping[str, object]


def read_rows(path: Path, *, limits: RowLimits = DEFAULT_LIMITS) -> Iterator[SourceRow]:
    """Yield the rows of a `.jsonl`, `.ndjson`, `.parquet`, `.csv` or `.tsv` file, in file order.

    Values of CSV files are text. Blank lines of JSON lines are skipped, but counted.

    Raises:
        InvalidInputError: `bad-task` naming file, line and reason.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise bad_task(f"{path}: unknown kind of file", hint="use one of " + ", ".join(SUFFIXES))
    if not path.is_file():
        raise bad_task(f"{path}: no such file")
    if (size := path.stat().st_size) > limits.max_file_bytes:
        raise bad_task(f"{path}: {size} bytes; the limit is {limits.max_file_bytes}")
    if size == 0:
        return
    if suffix in JSONL_SUFFIXES:
        rows = _read_json_lines(path, limits)
    else:
        rows = _read_table(path, limits, parquet=suffix in PARQUET_SUFFIXES)
    for count, row in enumerate(rows):
        if count >= limits.max_rows:
            raise bad_task(f"{row.origin}: more than {limits.max_rows} rows")
        yield row


def _read_json_lines(path: Path, limits: RowLimits) -> Iterator[SourceRow]:
    # A raw control character is illegal in JSON, so \x01 never splits a legal line.
    sql = (
        "SELECT line FROM read_csv(?, columns = {'line': 'VARCHAR'}, header = false, auto_detect = false,"
        " delim = '\x01', quote = '', escape = '', null_padding = true, parallel = false,"
        " hive_partitioning = false, max_line_size = ?)"
    )
    for number, (line,) in enumerate(_query(path, sql, [limits.max_row_bytes]), start=1):
        if line is None or not str(line).strip():
            continue
        origin = f"{path}:{number}"
        try:
            value = json.loads(str(line))
        except (ValueError, RecursionError) as exc:
            raise bad_task(f"{origin}: malformed JSON: {exc}") from exc
        if not isinstance(value, dict):
            raise bad_task(f"{origin}: a {type(value).__name__}, not a JSON object")
        yield SourceRow(origin=origin, columns=value)


def _read_table(path: Path, limits: RowLimits, *, parquet: bool) -> Iterator[SourceRow]:
    if parquet:
        sql, parameters = "SELECT * FROM read_parquet(?, hive_partitioning = false)", []
    else:
        sql = (
            "SELECT * FROM read_csv(?, header = true, all_varchar = true, parallel = false,"
            " hive_partitioning = false, max_line_size = ?)"
        )
        parameters = [limits.max_row_bytes]
    names: list[str] = []
    for number, values in enumerate(_query(path, sql, parameters, names=names), start=1):
        yield SourceRow(f"{path} row {number}", dict(zip(names, values, strict=True)))


def _query(
    path: Path, sql: str, parameters: list[int], *, names: list[str] | None = None
) -> Iterator[tuple[object, ...]]:
    """Run one SELECT over `path` and yield its rows; column names go into `names`."""
    import duckdb

    try:
        with duckdb.connect(":memory:", config=_DUCKDB_CONFIG) as connection:
            cursor = connection.execute(sql, [_literal_path(path), *parameters])
            if names is not None:
                names.extend(column[0] for column in cursor.description or ())
            yield from _fetch(cursor)
    except duckdb.Error as exc:
        reason = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise bad_task(f"{path}: {reason}") from exc


def _fetch(cursor: duckdb.DuckDBPyConnection) -> Iterator[tuple[object, ...]]:
    while rows := cursor.fetchmany(_FETCH_ROWS):
        yield from rows


def _literal_path(path: Path) -> str:
    """The path with DuckDB's glob characters taken literally."""
    text = str(path.absolute())
    return "".join(f"[{char}]" if char in "*?[" else char for char in text)
