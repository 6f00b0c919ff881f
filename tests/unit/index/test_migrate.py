"""`migrations/schema.sql` and the reference in `docs/sql.md` are generated: run this file to do so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deltavcs.index import migrate
from deltavcs.index.database import open_database

ROOT = Path(__file__).parents[3]
SCHEMA = ROOT / "migrations/schema.sql"
PAGE = ROOT / "docs/sql.md"
REFERENCE = re.compile(r"(?<=<!-- reference -->\n).*(?=<!-- end of reference -->)", re.DOTALL)
EXAMPLE = re.compile(r"```sql\n(.*?)```", re.DOTALL)

COLUMNS = """
SELECT c.table_name, c.column_name, c.data_type, c.comment FROM duckdb_columns() c
WHERE NOT c.internal ORDER BY c.table_name, c.column_index
"""
RELATIONS = """
SELECT 'view', view_name, comment FROM duckdb_views() WHERE NOT internal
UNION ALL SELECT 'table', table_name, comment FROM duckdb_tables() WHERE NOT internal
ORDER BY 1 DESC, 2
"""


def empty():
    return open_database(None, write=True, wait_s=0, threads=1)


def reference() -> str:
    with empty() as connection:
        migrate.create(connection)
        columns = connection.execute(COLUMNS).fetchall()
        out = []
        for kind, relation, comment in connection.execute(RELATIONS).fetchall():
            out.append(f"\n### {kind} `{relation}`\n\n{comment}\n\n| column | type | |\n|---|---|---|\n")
            out += [
                f"| `{name}` | {type_} | {text} |\n"
                for table, name, type_, text in columns
                if table == relation
            ]
    return "".join(out) + "\n"


def schema() -> str:
    with empty() as connection:
        migrate.create(connection)
        return migrate.schema(connection)


def test_schema_sql_is_what_the_migrations_make():
    assert SCHEMA.read_text() == schema()


def test_the_page_describes_every_table_view_and_column():
    found = REFERENCE.search(PAGE.read_text())
    assert found
    assert found.group() == reference()
    assert "None" not in found.group()


@pytest.mark.parametrize("sql", EXAMPLE.findall(PAGE.read_text()))
def test_every_example_runs(sql):
    with empty() as connection:
        migrate.create(connection)
        connection.execute(sql)


def test_migrations_are_numbered_without_gaps():
    assert [m.name[:4] for m in migrate.migrations()] == [
        f"{i + 1:04}" for i in range(len(migrate.migrations()))
    ]


if __name__ == "__main__":
    SCHEMA.write_text(schema())
    PAGE.write_text(REFERENCE.sub(lambda _: reference(), PAGE.read_text()))
