from __future__ import annotations

import pytest
from fake_repository import FakeRepository, oid

from deltavcs.index import queries as q
from deltavcs.index.statement import query


@pytest.fixture
def repo():
    return FakeRepository()


@pytest.fixture
def index(repo, tmp_path):
    return repo.index(tmp_path)


def test_children_and_descendants(repo, index):
    base = repo.commit(0, branch="llama")
    one = repo.commit(1, [(base, "base")], time=1)
    two = repo.commit(2, [(base, "base"), (one, "previous")], branch="run", time=2)
    other = repo.commit(3, branch="other")
    assert [(e.child, e.role, e.names) for e in q.children_of(index, base)] == [
        (one, "base", None),
        (two, "base", "run"),
    ]
    assert [(e.parent, e.child) for e in q.descendants(index, base)] == [(base, one), (base, two), (one, two)]
    assert [(e.parent, e.child) for e in q.descendants(index, base, limit=1)] == [(base, one)]
    assert q.descendants(index, other) == q.children_of(index, two) == []
    assert q.descendants(index, oid("nobody")) == []
    assert q.count_commits(index) == 4


def test_disk_usage_of_some_equals_that_of_all(repo, index):
    base = repo.commit(0, branch="llama")
    run = repo.commit(1, [(base, "base")], branch="run")
    twin = repo.commit(1, [(base, "base")], branch="twin", message="same content")
    alone = repo.commit(5, branch="alone")
    every = {u.commit: u for u in q.disk_usage(index)}
    # Blobs of 8 stored bytes: two of its own; the shared tensor, the header and the config are everyone's.
    assert (every[alone].unique_bytes, every[alone].shared_bytes, every[alone].n_blobs) == (16, 24, 5)
    assert (every[twin].unique_bytes, every[twin].shared_bytes) == (0, 40)
    assert every[base].names == "llama"
    for commits in ([base], [run, twin], list(every)):
        assert {u.commit: u for u in q.disk_usage(index, commits)} == {c: every[c] for c in commits}
    totals = q.storage_totals(index)
    assert (totals.n_packs, totals.n_blobs, totals.used_bytes) == (4, 9, 72)


def test_tensors_with_and_without_stats(repo, index):
    base = repo.commit(0, branch="llama")
    run = repo.commit(1, [(base, "base")], branch="run", base=base)
    sql = "SELECT name, shape, stored_bytes, l2, changed_share FROM tensors WHERE commit = ? ORDER BY name"
    assert query(index, sql, [run]).rows == [
        ("shared", "[2,2]", 8, None, None),
        ("w0", "[2,2]", 8, 1.5, 0.75),
        ("w1", "[2,2]", 8, None, 0.0),
    ]
