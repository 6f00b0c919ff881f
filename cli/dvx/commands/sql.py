"""`dvx sql`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

import deltavcs as dv
from dvx import reports, text
from dvx.app import command
from dvx.exits import CONFLICT
from dvx.failures import Usage
from dvx.output import jsonable
from dvx.session import Session
from dvx.table import Column, table

if TYPE_CHECKING:
    from deltavcs.porcelain.sql import QueryResult

_NUMBERS = ("INT", "DECIMAL", "FLOAT", "DOUBLE", "REAL", "NUMERIC")
_ON_TERMINAL = 1000
_LEAST_COLUMN = 11


@command(
    examples=[
        ("dvx sql 'SHOW TABLES'", "what there is to ask"),
        ("dvx sql 'SELECT names, kind, message FROM log LIMIT 5'", "the newest commits"),
        ("dvx sql 'SELECT task, min(loss) FROM scores GROUP BY task'", "the best loss by task"),
        ("dvx sql --csv - < query.sql > rows.csv", "from a file, for a spreadsheet"),
    ],
    statuses=(CONFLICT,),
)
@click.argument("query")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
def sql(session: Session, query: str, as_csv: bool) -> None:
    """Ask the lineage index in SQL (DuckDB's), read-only.

    QUERY is one statement, or - to read it from stdin. Commits, edges, tensors, scores and what they
    cost are tables and views; docs/sql.md describes them.
    """
    statement = sys.stdin.read() if query == "-" else query
    if as_csv and session.json:
        raise Usage("--csv and --json exclude each other")
    whole = session.json or as_csv or session.width is None
    found = dv.sql(session.repository(), statement, max_rows=None if whole else _ON_TERMINAL)
    session.emit(lambda: _document(found), _csv(found) if as_csv else _lines(found, session.width))


def _document(found: QueryResult) -> dict[str, object]:
    return {
        "columns": [{"name": n, "type": t} for n, t in zip(found.columns, found.types, strict=True)],
        "rows": [list(row) for row in found.rows],
    }


def _lines(found: QueryResult, width: int | None) -> Iterator[str]:
    columns = [
        Column(text.line(name) or "?", right=_is_number(type_), least=0 if _is_number(type_) else 8)
        for name, type_ in zip(found.columns, found.types, strict=True)
    ]
    rows = [tuple(_cell(value) or " " for value in row) for row in found.rows]
    if rows and width is not None and len(columns) * _LEAST_COLUMN > width:
        yield from _records(found)
    elif rows:
        yield from table(columns, rows, width=width)
    else:
        yield "no rows"
    if found.truncated:
        yield f"only the first {_ON_TERMINAL:,} rows are shown; a pipe or --json gets all"


def _records(found: QueryResult) -> Iterator[str]:
    """A block of lines per row: for more columns than the terminal can show side by side."""
    for i, row in enumerate(found.rows):
        if i:
            yield ""
        cells = (text.line(_cell(value)) for value in row)
        yield from reports.pairs(dict(zip(map(text.line, found.columns), cells, strict=True)))


def _csv(found: QueryResult) -> Iterator[str]:
    yield ",".join(_quoted(name) for name in found.columns)
    for row in found.rows:
        yield ",".join("" if v is None else _quoted(_text(v)) for v in row)


def _quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"' if any(c in value for c in ',"\r\n') else value


def _is_number(type_: str) -> bool:
    return any(n in type_ for n in _NUMBERS) and "[" not in type_


def _text(value: object) -> str:
    import json

    found = jsonable(value)
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return text.plain(_text(value)).replace("\n", " ")
