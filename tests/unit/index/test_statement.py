from __future__ import annotations

import pytest
from fake_repository import FakeRepository

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.index.statement import query
from dvx.hints import hint_of


@pytest.fixture
def index(tmp_path):
    repo = FakeRepository()
    base = repo.commit(0, branch="llama")
    repo.commit(1, [(base, "base")], branch="run", base=base, time=2**62)
    return repo.index(tmp_path)


def test_rows_and_columns(index):
    result = query(index, "SELECT names, kind FROM log WHERE kind = ? ORDER BY names", ["base"])
    assert result.columns == ("names", "kind")
    assert result.types == ("VARCHAR", "VARCHAR")
    assert result.rows == [("llama", "base")]
    assert not result.truncated


def test_rows_are_limited(index):
    result = query(index, "SELECT * FROM range(10)", max_rows=3)
    assert (result.rows, result.truncated) == ([(0,), (1,), (2,)], True)
    assert not query(index, "SELECT * FROM range(3)", max_rows=3).truncated


@pytest.mark.parametrize(
    "sql", ["SHOW TABLES", "DESCRIBE log", "SUMMARIZE log", "FROM log", "EXPLAIN FROM log"]
)
def test_whatever_reads_is_allowed(index, sql):
    assert query(index, sql).rows


@pytest.mark.parametrize(
    "sql",
    [
        "selct 1",
        "SELECT * FROM nope",
        "SELECT nope FROM log",
        "SELECT 1; SELECT 2",
        "",
        "-- nothing",
        "DELETE FROM commits",
        "INSERT INTO refs VALUES ('a', 'b', 'c', 'd')",
        "DROP VIEW log",
        "CREATE TEMP TABLE t AS SELECT 1",
        "COPY log TO '{tmp}/out.csv'",
        "SELECT * FROM '{file}'",
        "SELECT * FROM read_text('{file}')",
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM glob('{tmp}/*')",
        "ATTACH '{tmp}/other.duckdb'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET threads = 64",
        "SET enable_external_access = true",
        "PRAGMA memory_limit = '64GB'",
        "EXPORT DATABASE '{tmp}/out'",
        "CALL pragma_version()",
        "SELECT * FROM range(1, ?)",
        "SELECT 1/0::DECIMAL(4,2) + 'x'",
        "SELECT count(DISTINCT hash(range) || repeat('x', 200)) FROM range(30000000)",
        "SELECT getenv('HOME')",
        "SELECT * FROM duckdb_secrets()",
        "EXPLAIN ANALYZE DELETE FROM commits",
        "WITH x AS (INSERT INTO refs VALUES ('a', 'b', 'c', 'd') RETURNING *) FROM x",
    ],
)
def test_whatever_else_is_one_line(index, sql, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    before = query(index, "FROM refs").rows
    with pytest.raises(InvalidInputError) as caught:
        query(index, sql.replace("{tmp}", str(tmp_path)).replace("{file}", str(secret)))
    assert caught.value.kind is ErrorKind.BAD_SQL
    assert "\n" not in caught.value.message
    assert hint_of(caught.value)
    assert query(index, "FROM refs").rows == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["index", "locks", "secret.txt", "tmp"]


@pytest.mark.parametrize(
    ("sql", "advice"),
    [
        ("SELECT 1; SELECT 2", Advice.ONE_BY_ONE),
        (
            "SELECT count(DISTINCT hash(range) || repeat('x', 200)) FROM range(30000000)",
            Advice.NARROW_QUERY,
        ),
        ("SELECT * FROM nope", None),
    ],
)
def test_what_would_help_is_named(index, sql, advice):
    with pytest.raises(InvalidInputError) as caught:
        query(index, sql)
    assert caught.value.advice is advice


def test_a_slow_query_is_interrupted(index):
    with pytest.raises(InvalidInputError, match=r"longer than 0\.2 seconds"):
        query(
            index,
            "SELECT count(*) FROM range(3000000000) a, range(99) b WHERE a.range % 7 = b.range",
            timeout_s=0.2,
        )


def test_python_variables_are_out_of_reach(index):
    rows = {"a": [1]}  # noqa: F841
    with pytest.raises(InvalidInputError):
        query(index, "FROM rows")


def test_times_outside_the_calendar_are_null(index):
    assert query(index, "SELECT time FROM log WHERE names = 'run'").rows == [(None,)]
