"""Rows of a task, read from local files: text line by line, Parquet by DuckDB.

Nothing about a text file is guessed, so that an error names its line and no value or delimiter is inferred
from the other rows.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never

from deltavcs.tasks.template import BadRow, bad_task

if TYPE_CHECKING:
    import duckdb

JSONL_SUFFIXES = (".jsonl", ".ndjson")
CSV_SUFFIXES = (".csv", ".tsv")
PARQUET_SUFFIXES = (".parquet",)
SUFFIXES = JSONL_SUFFIXES + CSV_SUFFIXES + PARQUET_SUFFIXES

_FETCH_ROWS = 2048
_MAX_DIGITS = 400
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
        max_row_bytes: bytes of one line, and of one CSV row that goes over several.
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
        origin: `FILE:LINE` for text files (where the row starts), `FILE row N` (from 1) for Parquet.
        columns: the values, as Python objects.
    """

    origin: str
    columns: Mapping[str, object]


def read_rows(path: Path, *, limits: RowLimits = DEFAULT_LIMITS) -> Iterator[SourceRow]:
    """Yield the rows of a `.jsonl`, `.ndjson`, `.parquet`, `.csv` or `.tsv` file, in file order.

    Values of CSV files are text, or None for an empty cell; cells are separated by commas, in `.tsv` by tabs.
    Blank lines of text files are skipped, but counted. Numbers of Parquet that are not finite are None.

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
    elif suffix in CSV_SUFFIXES:
        rows = _read_csv(path, limits, delimiter="\t" if suffix == ".tsv" else ",")
    else:
        rows = _read_parquet(path)
    for count, row in enumerate(rows):
        if count >= limits.max_rows:
            raise bad_task(f"{row.origin}: more than {limits.max_rows} rows")
        yield row


def parse_json(text: str) -> Any:
    """Parse JSON, strictly: no NaN, no number that overflows, no key twice.

    Raises:
        ValueError: the reason.
    """
    try:
        return json.loads(
            text,
            parse_constant=_refuse,
            parse_float=_finite,
            parse_int=_whole,
            object_pairs_hook=_unique,
        )
    except json.JSONDecodeError as exc:
        raise ValueError(f"malformed JSON: {exc}") from exc
    except RecursionError as exc:
        raise ValueError("malformed JSON: too many levels") from exc


def _refuse(constant: str) -> Never:
    raise ValueError(f"{constant} is not a number that JSON has")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"the number {text[:40]} is too large for a float")
    return value


def _whole(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits; the limit is {_MAX_DIGITS}")
    return int(text)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value: dict[str, object] = {}
    for key, item in pairs:
        if key in value:
            raise ValueError(f"the key {key[:40]!r} is there twice")
        value[key] = item
    return value


def _read_lines(path: Path, limits: RowLimits) -> Iterator[tuple[int, str]]:
    """Yield number (from 1) and text, with its line end, of every line."""
    most = limits.max_row_bytes
    try:
        with path.open("rb") as file:
            number = 0
            while data := file.readline(most + len("\r\n")):
                number += 1
                if len(data.rstrip(b"\r\n")) > most:
                    raise bad_task(
                        f"{path}:{number}: the line is longer than {most} bytes, which is the limit"
                    )
                yield (
                    number,
                    _decoded(data.removeprefix(codecs.BOM_UTF8) if number == 1 else data, path, number),
                )
    except OSError as exc:
        raise bad_task(f"{path}: cannot be read: {exc.strerror or exc}") from exc


def _decoded(data: bytes, path: Path, number: int) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise bad_task(
            f"{path}:{number}: not UTF-8: byte {exc.start + 1} of the line is 0x{data[exc.start]:02x}",
            hint="save the file as UTF-8",
        ) from exc


def _read_json_lines(path: Path, limits: RowLimits) -> Iterator[SourceRow]:
    for number, line in _read_lines(path, limits):
        if not line.strip():
            continue
        origin = f"{path}:{number}"
        try:
            value = parse_json(line)
        except ValueError as exc:
            raise bad_task(f"{origin}: {exc}") from exc
        if not isinstance(value, dict):
            raise bad_task(f"{origin}: a {type(value).__name__}, not a JSON object")
        yield SourceRow(origin=origin, columns=value)


def _read_csv(path: Path, limits: RowLimits, *, delimiter: str) -> Iterator[SourceRow]:
    records = _csv_records(path, limits, delimiter)
    number, names = next(records, (0, []))
    if twice := [name for name, count in Counter(names).items() if name and count > 1]:
        raise bad_task(f"{path}:{number}: the header names the column {twice[0]!r} twice")
    for number, cells in records:
        if len(cells) != len(names):
            raise bad_task(
                f"{path}:{number}: {len(cells)} cells, but the header names {len(names)} columns",
                hint='.csv has commas between cells, .tsv has tabs; cells that hold one are quoted: "a, b"',
            )
        # An index that was written along has no name.
        columns = {name: cell or None for name, cell in zip(names, cells, strict=True) if name}
        yield SourceRow(f"{path}:{number}", columns)


def _csv_records(path: Path, limits: RowLimits, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line where it starts and the cells of every record, the header first."""
    record, start, size = _CsvRecord(delimiter), 0, 0
    for number, line in _read_lines(path, limits):
        if record.open is None:
            if not line.strip("\r\n"):
                continue
            record, start, size = _CsvRecord(delimiter), number, 0
        size += len(line.encode())
        if number > start and size > limits.max_row_bytes:
            raise bad_task(
                f"{path}:{start}: a quoted cell is still open after {limits.max_row_bytes} bytes, which is"
                " the limit of a row",
                hint='is there a closing quote? a quote inside a quoted cell is written twice: ""',
            )
        try:
            record.feed(line)
        except BadRow as exc:
            raise bad_task(f"{path}:{number}: {exc}") from exc
        if record.open is None:
            yield start, record.cells
    if record.open is not None:
        raise bad_task(
            f"{path}:{start}: a quoted cell is never closed",
            hint='a quote inside a quoted cell is written twice: ""',
        )


_QUOTED = re.compile(r'([^"]*+(?:""[^"]*+)*+)"')


class _CsvRecord:
    """One record (RFC 4180), fed line by line. `csv` would do if its limit of a cell were not process-wide.

    Attributes:
        cells: those that are complete.
        open: what there is of a quoted cell that goes on in the next line; None if there is none.
    """

    def __init__(self, delimiter: str) -> None:
        self.cells: list[str] = []
        self.open: list[str] | None = None
        self._delimiter = delimiter
        self._bare = re.compile(rf"[^{delimiter}\r\n]*+")

    def feed(self, line: str) -> None:
        """Take the next line, with its line end. Raises BadRow for what is neither a cell nor a delimiter."""
        at, stop = 0, len(line.removesuffix("\n").removesuffix("\r"))
        while (end := self._feed_cell(line, at)) is not None and end < stop:
            if line[end] == "\r":
                raise BadRow("a carriage return that ends no line and is not in quotes")
            if line[end] != self._delimiter:
                raise BadRow(f"{line[end : min(stop, end + 20)]!r} follows a closing quote")
            at = end + 1

    def _feed_cell(self, line: str, at: int) -> int | None:
        """Take one cell; give where it ends, or None if that is not in this line."""
        if self.open is None and not line.startswith('"', at):
            found = self._bare.match(line, at)
            assert found is not None  # matches the empty text
            self.cells.append(found[0])
            return found.end()
        if self.open is None:
            self.open, at = [], at + 1
        found = _QUOTED.match(line, at)
        if found is None:
            self.open.append(line[at:])
            return None
        self.cells.append("".join([*self.open, found[1]]).replace('""', '"'))
        self.open = None
        return found.end()


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
        reason = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise bad_task(f"{path}: {reason}") from exc


def _fetch(cursor: duckdb.DuckDBPyConnection) -> Iterator[tuple[object, ...]]:
    while rows := cursor.fetchmany(_FETCH_ROWS):
        yield from rows


def _literal_path(path: Path) -> str:
    """The path with DuckDB's glob characters taken literally."""
    text = str(path.absolute())
    return "".join(f"[{char}]" if char in "*?[" else char for char in text)
