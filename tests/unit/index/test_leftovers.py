"""What damage and killed processes leave in the folder of the index."""

from __future__ import annotations

import pytest

from deltavcs.index.leftovers import move_aside, sweep, wal_of


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lineage.duckdb"


def names(path):
    return sorted(p.name for p in path.parent.iterdir())


def test_a_database_moves_aside_without_its_log(path):
    path.write_bytes(b"database")
    wal_of(path).write_bytes(b"log")
    assert move_aside(path) == path.with_name("lineage.duckdb.bad-1")
    assert names(path) == ["lineage.duckdb.bad-1"]


def test_the_last_of_three_is_overwritten(path):
    for n in range(5):
        path.write_bytes(bytes([n]))
        moved = move_aside(path)
    assert [p.read_bytes() for p in sorted(path.parent.iterdir())] == [b"\0", b"\1", b"\4"]
    assert moved == path.with_name("lineage.duckdb.bad-3")


def test_nothing_to_move(path):
    assert move_aside(path) is None
    assert names(path) == []


def test_a_sweep_takes_killed_rebuilds_alone(path):
    path.write_bytes(b"database")
    path.with_name("new-0a1b2c3d.duckdb").write_bytes(b"half")
    path.with_name("new-0a1b2c3d.duckdb.wal").write_bytes(b"log")
    spilled = path.with_name("new-0a1b2c3d.duckdb.tmp")
    spilled.mkdir()
    (spilled / "block").write_bytes(b"spilled")
    path.with_name("lineage.duckdb.bad-1").write_bytes(b"kept")
    sweep(path)
    assert names(path) == ["lineage.duckdb", "lineage.duckdb.bad-1"]
