"""Rows come back as they were given, whatever their number and whatever is missing."""

from __future__ import annotations

import duckdb
import pytest

from deltavcs.index import bulk
from deltavcs.index.bulk import BulkLoader, with_ids

ROWS = [
    ("a", 2**62, True, 0.5),
    ("ä\n'\"", -1, False, None),
    (None, None, None, float("inf")),
]


@pytest.fixture
def connection():
    with duckdb.connect() as connection:
        connection.execute('CREATE TABLE "t" (s VARCHAR, i BIGINT, b BOOLEAN, d DOUBLE)')
        yield connection


def test_values_of_every_type_and_nulls(connection):
    loader = BulkLoader(connection)
    loader.add(("t", row) for row in ROWS)
    assert connection.execute("SELECT count(*) FROM t").fetchall() == [(0,)]
    loader.flush()
    assert connection.execute("FROM t").fetchall() == ROWS
    loader.flush()
    assert connection.execute("SELECT count(*) FROM t").fetchall() == [(3,)]


def test_many_rows_are_written_on_the_way(connection, monkeypatch):
    monkeypatch.setattr(bulk, "_FLUSH_ROWS", 10)
    loader = BulkLoader(connection)
    loader.add(("t", (str(n), n, n % 2 == 0, None)) for n in range(25))
    assert connection.execute("SELECT count(*) FROM t").fetchall() == [(20,)]
    loader.flush()
    assert connection.execute("SELECT i FROM t ORDER BY i").fetchall() == [(n,) for n in range(25)]


def test_a_row_of_another_width_is_refused(connection):
    loader = BulkLoader(connection)
    loader.add([("t", ("a", 1, True))])
    with pytest.raises(ValueError, match="shorter"):
        loader.flush()


def test_ids_are_a_table_for_one_statement(connection):
    assert with_ids(connection, ["b", "a"], "SELECT id FROM dvx_source ORDER BY id") == [("a",), ("b",)]
    assert with_ids(connection, [], "SELECT id FROM dvx_source") == []
    with pytest.raises(duckdb.CatalogException):
        connection.execute("FROM dvx_source")
    with pytest.raises(duckdb.BinderException):
        with_ids(connection, ["a"], "SELECT nope FROM dvx_source")
    with pytest.raises(duckdb.CatalogException):
        connection.execute("FROM dvx_source")
