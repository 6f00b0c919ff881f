"""What a refusal of DuckDB means, and what would help."""

from __future__ import annotations

import sys

import pytest

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, MissingDependencyError, StorageError
from deltavcs.index.database import UnusableDatabase, is_damage, load_duckdb, locked, open_database, refusal


@pytest.mark.parametrize(
    ("text", "kind", "advice", "retryable"),
    [
        ("IO Error: Cannot open file: Permission denied", "permission-denied", Advice.PERMIT_INDEX, False),
        ("IO Error: Read-only file system", "permission-denied", Advice.PERMIT_INDEX, False),
        ("IO Error: No space left on device", "disk-full", Advice.FREE_SPACE_FOR_INDEX, True),
        ("IO Error: Disk quota exceeded", "disk-full", Advice.FREE_SPACE_FOR_INDEX, True),
    ],
)
def test_a_refusal_of_the_system(text, kind, advice, retryable):
    error = refusal(Exception(text))
    assert isinstance(error, StorageError)
    assert (error.kind, error.advice, error.retryable) == (kind, advice, retryable)


def test_any_other_refusal_has_the_index_derived_anew():
    error = refusal(Exception("Catalog Error: no such table\nLINE 1: ..."))
    assert isinstance(error, UnusableDatabase)
    assert str(error) == "Catalog Error: no such table"
    assert str(refusal(ValueError())) == "ValueError"


def test_damage_is_known_by_what_this_duckdb_says(tmp_path):
    path = tmp_path / "x.duckdb"
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(load_duckdb().Error) as caught:
        load_duckdb().connect(str(path))
    assert is_damage(caught.value)
    assert not is_damage(ValueError("Permission denied"))


def test_an_absent_file_is_not_created_by_a_reader(tmp_path):
    path = tmp_path / "x.duckdb"
    with (
        pytest.raises(UnusableDatabase, match="absent"),
        open_database(path, write=False, wait_s=0, threads=1),
    ):
        pass
    assert not path.exists()


def test_a_kept_index_can_be_waited_for():
    assert (locked().kind, locked().advice) == (ErrorKind.LOCKED, Advice.WAIT_FOR_INDEX)


def test_without_duckdb_the_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(MissingDependencyError) as caught:
        load_duckdb()
    assert caught.value.facts == {"package": "duckdb"}
