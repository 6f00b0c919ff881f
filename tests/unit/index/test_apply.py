from __future__ import annotations

import pytest
from fake_repository import FakeRepository, dump, oid

from deltavcs.errors import IntegrityError
from deltavcs.index import IndexOutcome


@pytest.fixture
def repo():
    return FakeRepository()


def count(index, table="commits"):
    return index.read(lambda c: c.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def assert_as_rebuilt(repo, index, tmp_path):
    other = repo.index(tmp_path / "other")
    assert other.rebuild().outcome is IndexOutcome.REBUILT
    assert dump(index) == dump(other)


def test_an_empty_repository(repo, tmp_path):
    index = repo.index(tmp_path)
    assert index.catch_up().outcome is IndexOutcome.REBUILT
    assert index.catch_up().outcome is IndexOutcome.CURRENT
    assert count(index) == 0
    assert (tmp_path / "index/CACHEDIR.TAG").is_file()


def test_new_commits_are_added_and_old_ones_not_read_again(repo, tmp_path):
    index = repo.index(tmp_path)
    base = repo.commit(0, branch="llama")
    one = repo.commit(1, [(base, "base")], branch="run", base=base, metadata={"lr": "1e-5"}, message="m")
    assert index.catch_up().n_added == 2
    manifests = dict(repo.objects.manifests)
    repo.objects.manifests.clear()
    two = repo.commit(2, [(base, "base"), (one, "previous")], branch="run", base=base, time=5)
    result = index.catch_up()
    assert (result.outcome, result.n_added, result.n_removed) == (IndexOutcome.UPDATED, 1, 0)
    repo.objects.manifests.update(manifests)
    rows = index.read(
        lambda c: c.execute("SELECT commit, generation FROM log ORDER BY generation").fetchall()
    )
    assert rows == [(base, 0), (one, 1), (two, 2)]
    assert_as_rebuilt(repo, index, tmp_path)


def test_a_deleted_branch_takes_its_commits_along(repo, tmp_path):
    index = repo.index(tmp_path)
    base = repo.commit(0, branch="llama")
    repo.commit(1, [(base, "base")], branch="run", base=base)
    repo.commit(1, [(base, "base")], branch="twin", message="same content")
    index.catch_up()
    del repo.refs.refs["refs/heads/run"]
    assert index.catch_up().n_removed == 1
    assert count(index, "manifests") == 2
    assert count(index, "tensor_stats") == 0
    assert_as_rebuilt(repo, index, tmp_path)
    del repo.refs.refs["refs/heads/twin"]
    index.catch_up()
    assert count(index) == count(index, "manifests") == 1
    assert_as_rebuilt(repo, index, tmp_path)


def test_the_smallest_representation_of_a_blob_is_preferred(repo, tmp_path):
    index = repo.index(tmp_path)
    repo.commit(0, branch="llama")
    index.catch_up()
    small = repo.pack([oid("shared")], entry_bytes=2)
    assert index.catch_up().outcome is IndexOutcome.CURRENT
    assert index.catch_up(packs=True).outcome is IndexOutcome.UPDATED
    sql = f"SELECT stored_bytes FROM blobs WHERE preferred AND blob = '{oid('shared')}'"
    assert index.read(lambda c: c.execute(sql).fetchall()) == [(2,)]
    assert_as_rebuilt(repo, index, tmp_path)
    del repo.objects.packs[small]
    index.catch_up(packs=True)
    assert index.read(lambda c: c.execute(sql).fetchall()) == [(8,)]
    assert_as_rebuilt(repo, index, tmp_path)


def test_scores_follow_their_refs(repo, tmp_path):
    index = repo.index(tmp_path)
    commit = repo.commit(0, branch="llama")
    repo.score(commit, loss=2.0)
    index.catch_up()
    repo.score(commit, loss=1.0, accuracy=0.5)
    index.catch_up()
    assert index.read(lambda c: c.execute("SELECT loss, accuracy FROM scores").fetchall()) == [(1.0, 0.5)]
    assert_as_rebuilt(repo, index, tmp_path)


def test_a_missing_commit_is_an_error_and_leaves_the_index_as_it_was(repo, tmp_path):
    index = repo.index(tmp_path)
    repo.commit(0, branch="llama")
    index.catch_up()
    lost = repo.commit(1, branch="run")
    del repo.objects.commits[lost]
    with pytest.raises(IntegrityError, match="missing"):
        index.catch_up()
    del repo.refs.refs["refs/heads/run"]
    assert count(index) == 1


def test_a_missing_manifest_rolls_the_update_back(repo, tmp_path):
    index = repo.index(tmp_path)
    repo.commit(0, branch="llama")
    index.catch_up()
    commit = repo.commit(1, branch="run")
    saved = repo.objects.manifests.pop(repo.objects.commits[commit].manifest)
    with pytest.raises(IntegrityError):
        index.catch_up()
    repo.objects.put("manifest", saved)
    assert index.catch_up().n_added == 1
    assert_as_rebuilt(repo, index, tmp_path)


def test_a_deep_history_needs_no_recursion(repo, tmp_path):
    tip = repo.commit(0)
    for n in range(3000):
        tip = repo.commit(n % 7, [(tip, "previous")], time=n, branch="run", pack=False)
    index = repo.index(tmp_path)
    assert index.catch_up().n_added == 3001
    assert index.read(lambda c: c.execute("SELECT max(generation) FROM commits").fetchone()) == (3000,)
