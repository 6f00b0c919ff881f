"""Rows of a task, read from local files: text line by line, Parquet by DuckDB.

Nothing about a text file is guessed, so that an error names its line and no value or delimiter is inferred
from the other rows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deltavcs.advice import Advice
from deltavcs.errors import reason_of
from deltavcs.tasks.csv_records import read_csv_records
from deltavcs.tasks.record import Row, bad_task
from deltavcs.tasks.row_json import parse_row_json
from deltavcs.tasks.row_lines import DEFAULT_LIMITS, RowLimits, read_lines

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
class SourceRow:
    """One row as it stands in its file.

    Attributes:
        origin: `FILE:LINE` for text files (where the row starts), `FILE row N` (from 1) for Parquet.
        columns: the values, as Python objects.
    """

    origin: str
    columns: Row


def read_rows(path: Path, *, limits: RowLimits = DEFAULT_LIMITS) -> Iterator[SourceRow]:
    """Yield the rows of a `.jsonl`, `.ndjson`, `.parquet`, `.csv` or `.tsv` file, in file order.

    Values of CSV files are text, or None for an empty cell; cells are separated by commas, in `.tsv` by tabs.
    Blank lines of text files are skipped, but counted. Numbers of Parquet that are not finite are None.

    Raises:
        InvalidInputError: `bad-task` naming file, line and reason.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise bad_task(
            f"{path}: unknown kind of file", advice=Advice.ROW_FILES, facts={"suffixes": ", ".join(SUFFIXES)}
        )
    if not path.is_file():
        raise bad_task(f"{path}: no such file")
    if (size := path.stat().st_size) > limits.max_file_bytes:
        raise bad_task(f"{path}: {size} bytes; the limit is {limits.max_file_bytes}")
    if size == 0:
        return
    if suffix in JSONL_SUFFIXES:
        rows = _read_json_lines(path, limits)
    elif suffix in CSV_SUFFIXES:
        rows = _read_csv(path, limits, delimiter="\t" if suffix == ".tsv" else ",")
    else:
        rows = _read_parquet(path)
    for count, row in enumerate(rows):
        if count >= limits.max_rows:
            raise bad_task(f"{row.origin}: more than {limits.max_rows} rows")
        yield row


def _read_json_lines(path: Path, limits: RowLimits) -> Iterator[SourceRow]:
    for number, line in read_lines(path, limits):
        if not line.strip():
            continue
        origin = f"{path}:{number}"
        try:
            value = parse_row_json(line)
        except ValueError as exc:
            raise bad_task(f"{origin}: {exc}") from exc
        if not isinstance(value, dict):
            raise bad_task(f"{origin}: a {type(value).__name__}, not a JSON object")
        yield SourceRow(origin=origin, columns=value)


def _read_csv(path: Path, limits: RowLimits, *, delimiter: str) -> Iterator[SourceRow]:
    records = read_csv_records(path, limits, delimiter)
    number, names = next(records, (0, []))
    if twice := [name for name, count in Counter(names).items() if name and count > 1]:
        raise bad_task(f"{path}:{number}: the header names the column {twice[0]!r} twice")
    for number, cells in records:
        if len(cells) != len(names):
            raise bad_task(
                f"{path}:{number}: {len(cells)} cells, but the header names {len(names)} columns",
                advice=Advice.SEPARATE_CELLS,
            )
        # An index that was written along has no name.
        columns = {name: cell or None for name, cell in zip(names, cells, strict=True) if name}
        yield SourceRow(f"{path}:{number}", columns)


def _read_parquet(path: Path) -> Iterator[SourceRow]:
    names: list[str] = []
    sql = "SELECT * FROM read_parquet(?, hive_partitioning = false)"
    for number, values in enumerate(_query(path, sql, names), start=1):
        columns = {name: _finite_or_none(value) for name, value in zip(names, values, strict=True)}
        yield SourceRow(f"{path} row {number}", columns)


def _finite_or_none(value: object) -> object:
    # A float column has no other way to leave a number out.
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _query(path: Path, sql: str, names: list[str]) -> Iterator[tuple[object, ...]]:
    """Run one SELECT over `path` and yield its rows; column names go into `names`."""
    import duckdb

    try:
        with duckdb.connect(":memory:", config=_DUCKDB_CONFIG) as connection:
            cursor = connection.execute(sql, [_literal_path(path)])
            names.extend(column[0] for column in cursor.description or ())
            yield from _fetch(cursor)
    except duckdb.Error as exc:
        raise bad_task(f"{path}: {reason_of(exc)}") from exc


def _fetch(cursor: duckdb.DuckDBPyConnection) -> Iterator[tuple[object, ...]]:
    while rows := cursor.fetchmany(_FETCH_ROWS):
        yield from rows


def _literal_path(path: Path) -> str:
    """The path with DuckDB's glob characters taken literally."""
    text = str(path.absolute())
    return "".join(f"[{char}]" if char in "*?[" else char for char in text)
