"""`migrations/schema.sql` and the reference in `docs/sql.md` are generated: run this file to do so."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest
from fake_repository import CODECS, FakeRepository, dump, oid

from deltavcs.codec.api import codec_word
from deltavcs.index import IndexOutcome, migrate
from deltavcs.index.bulk import BulkLoader
from deltavcs.index.database import open_database
from deltavcs.index.statement import query

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


def test_an_older_schema_is_migrated_in_place(tmp_path):
    repo = FakeRepository()
    base = repo.commit(0, branch="llama")
    repo.commit(1, [(base, "base")], branch="run", base=base)
    index = repo.index(tmp_path)
    index.path.parent.mkdir()
    with open_database(index.path, write=True, wait_s=0, threads=1) as connection:
        migrate.create(connection, migrate.migrations()[:1])
    assert index.catch_up().outcome is IndexOutcome.UPDATED
    assert dump(index) == dump(repo.index(tmp_path / "other"))


def made_before(index, steps):
    """Make the file of `index` anew, as a version with the first `steps` migrations wrote it."""
    rows = dump(index)
    old = {"plain": "planes", "exp": "exponents", "delta": "conditioned"}
    rows["blobs"] = [(*r[:2], old.get(r[2], r[2]), *r[3:]) for r in rows["blobs"]]
    index.path.unlink()
    with open_database(index.path, write=True, wait_s=0, threads=1) as connection:
        migrate.create(connection, migrate.migrations()[:steps])
        loader = BulkLoader(connection)
        del rows[migrate.LEDGER]
        loader.add((table, row) for table in rows for row in rows[table])
        loader.flush()
        found = connection.execute("SELECT DISTINCT codec FROM blobs").fetchall()
    assert {word for (word,) in found} == {"raw", "planes", "xor", "exponents", "conditioned", "derived"}


def test_an_index_with_the_codecs_of_before_has_the_words_of_today_and_is_not_rebuilt(tmp_path):
    repo = FakeRepository()
    base = repo.commit(0, branch="llama")
    repo.commit(1, [(base, "base")], branch="run", base=base)
    repo.pack([oid(n) for n in range(len(CODECS))])
    index = repo.index(tmp_path)
    expected = dump(index)
    made_before(index, 2)
    repo.objects.manifests.clear()  # what a rebuild would read
    found = query(index, "SELECT DISTINCT codec FROM blobs").rows
    assert {word for (word,) in found} == {codec_word(number) for number in CODECS}
    assert index.last.outcome is IndexOutcome.CURRENT
    assert index.last.moved_aside is None
    assert dump(index) == expected


def test_a_shipped_migration_never_changes():
    # An index whose ledger differs is derived anew: minutes of nothing for a long history.
    assert {m.name: m.sha256[:16] for m in migrate.migrations()[:2]} == {
        "0001_lineage": "1e635de0a9f5022b",
        "0002_views": "9ffb603093599b9b",
    }


def test_a_failing_migration_leaves_nothing_behind(tmp_path):
    bad = migrate.Migration("9999_bad", "CREATE TABLE t (i INTEGER); SELECT nope")
    with open_database(tmp_path / "x.duckdb", write=True, wait_s=0, threads=1) as connection:
        migrate.create(connection)
        with pytest.raises(duckdb.Error):
            migrate.apply(connection, (bad,))
        assert migrate.pending(connection) == ()
        assert connection.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE table_name = 't'"
        ).fetchone() == (0,)


if __name__ == "__main__":
    SCHEMA.write_text(schema())
    PAGE.write_text(REFERENCE.sub(lambda _: reference(), PAGE.read_text()))
