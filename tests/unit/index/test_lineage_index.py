"""Whatever happened to the file, the next command has a right index."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest
from fake_repository import FakeRepository, dump

from deltavcs.errors import ConflictError, ErrorKind, StorageError
from deltavcs.index import IndexOutcome, LineageIndex
from deltavcs.index import queries as q
from deltavcs.storage import LocalStorage


@pytest.fixture
def repo():
    repo = FakeRepository()
    base = repo.commit(0, branch="llama")
    for n in range(20):
        repo.commit(n, [(base, "base")], branch=f"run{n}", base=base)
    return repo


@pytest.fixture
def index(repo, tmp_path):
    index = repo.index(tmp_path, wait_s=0.2)
    index.catch_up()
    return index


def assert_right(repo, index, tmp_path):
    other = repo.index(tmp_path / "other")
    assert dump(index) == dump(other)


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000, None])
def test_a_file_that_is_no_database(repo, index, tmp_path, content):
    index.path.write_bytes(index.path.read_bytes()[:5000] if content is None else content)
    result = index.catch_up()
    assert result.outcome is IndexOutcome.REBUILT
    assert result.moved_aside == index.path.with_name("lineage.duckdb.bad-1")
    assert result.moved_aside.is_file()
    assert_right(repo, index, tmp_path)


@pytest.mark.parametrize("seed", range(12))
def test_overwritten_bytes_never_give_wrong_rows(repo, index, tmp_path, seed):
    data = bytearray(index.path.read_bytes())
    at = (seed * 2_654_435_761) % len(data) // 64 * 64 if seed else 0
    data[at : at + 64] = bytes(x ^ 0xFF for x in data[at : at + 64])
    index.path.write_bytes(data)
    assert_right(repo, index, tmp_path)


def test_damaged_files_do_not_pile_up(repo, index):
    for _ in range(6):
        index.path.write_bytes(b"garbage")
        index.catch_up()
    assert len(list(index.path.parent.glob("*.bad-*"))) == 3


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO schema_migrations VALUES ('9999_future', 'x')",
        "UPDATE schema_migrations SET sha256 = 'edited' WHERE name LIKE '0001%'",
        "DROP TABLE schema_migrations",
        "DROP TABLE edges CASCADE",
        "ALTER TABLE refs RENAME COLUMN target TO other",
    ],
)
def test_a_schema_of_another_version(repo, index, tmp_path, sql):
    with duckdb.connect(str(index.path)) as connection:
        connection.execute(sql)
    repo.commit(99, [(repo.refs.refs["refs/heads/llama"], "base")], branch="new")
    result = index.catch_up()
    assert result.outcome is IndexOutcome.REBUILT
    assert result.moved_aside
    assert_right(repo, index, tmp_path)


HOLD = """
import duckdb, sys
c = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "r")
print("ok", flush=True)
input()
"""


@contextmanager
def held(path: Path, mode: str):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ok\n"
    try:
        yield process
    finally:
        process.communicate("\n")


def test_a_writer_keeps_readers_out_for_a_while_only(repo, index, tmp_path):
    with held(index.path, "w") as process:
        assert index.catch_up().outcome is IndexOutcome.SKIPPED
        with pytest.raises(ConflictError) as caught:
            q.count_commits(index)
        assert caught.value.kind is ErrorKind.LOCKED
        patient = repo.index(tmp_path, wait_s=20)
        threading.Timer(0.5, lambda: process.stdin.write("\n") and process.stdin.flush()).start()
        assert q.count_commits(patient) == 21


def test_a_reader_keeps_writers_out_and_nobody_gets_an_old_answer(repo, index):
    repo.commit(99, branch="new")
    with held(index.path, "r"):
        assert q.count_commits(index) == 22
        assert index.last.outcome is IndexOutcome.SKIPPED
        assert "another process" in index.last.reason
        with duckdb.connect(index.path, read_only=True) as file:
            assert file.execute("SELECT count(*) FROM commits").fetchone() == (21,)
    assert q.count_commits(index) == 22
    assert index.last.outcome is IndexOutcome.CURRENT


def test_a_rebuild_does_not_disturb_readers(repo, index):
    with held(index.path, "r"):
        assert index.rebuild().outcome is IndexOutcome.REBUILT
    assert q.count_commits(index) == 21


def test_one_connection_of_this_process_does_not_stop_another(repo, index):
    repo.commit(99, branch="new")
    seen = []
    with index.connect() as connection:
        thread = threading.Thread(target=lambda: seen.append(q.count_commits(index_of_thread)))
        index_of_thread = LineageIndex(LocalStorage(index.path.parents[1]), repo.objects, repo.refs)
        thread.start()
        thread.join()
        assert connection.execute("SELECT count(*) FROM commits").fetchone() == (22,)
    assert seen == [22]


class ReadOnly(LocalStorage):
    def lock(self, key, *, shared=False, wait=True):
        raise StorageError("cannot lock: read-only", kind=ErrorKind.PERMISSION_DENIED)


def test_a_repository_that_cannot_be_written(repo, index, tmp_path):
    fixed = repo.index(tmp_path, storage=ReadOnly(tmp_path))
    assert q.count_commits(fixed) == 21
    repo.commit(99, branch="new")
    assert q.count_commits(fixed) == 22
    assert fixed.last.outcome is IndexOutcome.SKIPPED
    bare = repo.index(tmp_path, storage=ReadOnly(tmp_path / "bare"))
    assert q.count_commits(bare) == 22
    assert not (tmp_path / "bare").exists()


class Failing(LocalStorage):
    def step(self, what, key):
        if key.startswith("index/"):
            raise OSError(28, "No space left on device")


def test_a_full_disk_skips(repo, tmp_path):
    index = repo.index(tmp_path, storage=Failing(tmp_path))
    assert index.catch_up().outcome is IndexOutcome.SKIPPED
    assert q.count_commits(index) == 21


CHILD = """
import sys, pickle, pathlib
sys.path.insert(0, sys.argv[1])
from fake_repository import FakeRepository
root = pathlib.Path(sys.argv[2])
repo = pickle.loads((root / "repo.pickle").read_bytes())
index = repo.index(root)
print("ready", flush=True)
getattr(index, sys.argv[3])()
"""


@pytest.mark.parametrize("verb", ["catch_up", "rebuild"])
@pytest.mark.parametrize("turn", range(5))
def test_kill_9_during_an_update(repo, index, tmp_path, verb, turn):
    tip = repo.commit(0, branch="long")
    for n in range(400):
        tip = repo.commit(n, [(tip, "previous")], branch="long", base=tip)
    (tmp_path / "repo.pickle").write_bytes(pickle.dumps(repo))
    command = [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(tmp_path), verb]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    time.sleep(0.03 + 0.1 * turn)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert q.count_commits(index) == 421
    assert_right(repo, index, tmp_path)
    if verb == "rebuild":
        index.rebuild()
        assert not list(index.path.parent.glob("new-*"))
