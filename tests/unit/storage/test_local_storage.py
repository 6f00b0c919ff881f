"""The directory as storage: keys, atomic puts, locks."""

from __future__ import annotations

import multiprocessing
import threading

import pytest

from deltavcs.errors import (
    ConflictError,
    ErrorKind,
    FormatError,
    InternalError,
    NotFoundError,
    StorageError,
)
from deltavcs.storage import LocalStorage
from deltavcs.testing.storage import FaultyStorage


@pytest.mark.parametrize("key", ["", "/etc/passwd", "a//b", "a/../b", "..", ".", "a/.", "a\0b", "a/"])
def test_a_key_never_leaves_the_root(storage, key):
    with pytest.raises(InternalError):
        storage.path(key)


def test_put_read_delete_list(storage):
    storage.put("a/b/c", b"1")
    storage.put("a/d", b"22")
    assert list(storage.list("a")) == ["a/b/c", "a/d"]
    assert storage.read("a/d", max_bytes=2) == b"22"
    storage.put("a/d", b"333", overwrite=False)
    assert storage.read("a/d", max_bytes=2) == b"22"
    storage.put("a/d", b"333")
    with pytest.raises(FormatError) as caught:
        storage.read("a/d", max_bytes=2)
    assert caught.value.kind is ErrorKind.LIMIT_EXCEEDED
    storage.delete("a/d")
    storage.delete("a/d")
    assert not storage.exists("a/d") and list(storage.list("a")) == ["a/b/c"]
    with pytest.raises(NotFoundError):
        storage.read("a/d", max_bytes=2)
    assert list(storage.list("nothing/here")) == []


def test_a_link_in_the_repository_is_not_followed_when_listing(storage, tmp_path):
    storage.put("a/b", b"1")
    (storage.root / "a" / "up").symlink_to(tmp_path)
    (storage.root / "a" / "link").symlink_to(storage.root / "a" / "b")
    assert list(storage.list("a")) == ["a/b"]


@pytest.mark.parametrize("at", range(3))
def test_a_failed_put_leaves_the_old_value(tmp_path, at):
    LocalStorage(tmp_path).put("k", b"old")
    storage = FaultyStorage(tmp_path, fail_at=at)
    with pytest.raises(StorageError) as caught:
        storage.put("k", b"new")
    assert caught.value.kind is ErrorKind.DISK_FULL and caught.value.retryable
    assert caught.value.advice is None  # what the kind says is enough
    what = storage.changes[at][0]
    assert storage.read("k", max_bytes=9) == (b"new" if what == "sync" else b"old")
    assert list((tmp_path / "tmp").iterdir()) == [] if (tmp_path / "tmp").exists() else True


def test_append_ends_a_torn_line(storage):
    storage.append("log", b"one\n")
    with (storage.root / "log").open("ab") as file:
        file.write(b"tor")
    storage.append("log", b"two\n")
    assert storage.read("log", max_bytes=99) == b"one\ntor\ntwo\n"


def test_locks_exclude_and_share(storage):
    def taken(*, shared):
        with pytest.raises(ConflictError) as caught, storage.lock("locks/x", shared=shared, wait=False):
            pass
        return caught.value.kind is ErrorKind.LOCKED

    with storage.lock("locks/x", shared=True), storage.lock("locks/x", shared=True, wait=False):
        assert taken(shared=False)
    with storage.lock("locks/x", wait=False):
        assert taken(shared=True) and taken(shared=False)


def _hold_lock(root, ready):
    with LocalStorage(root).lock("locks/x"):
        ready.set()
        threading.Event().wait()


def test_a_dead_holder_holds_nothing(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_hold_lock, args=(tmp_path, ready))
    process.start()
    assert ready.wait(30)
    storage = LocalStorage(tmp_path)
    with pytest.raises(ConflictError), storage.lock("locks/x", wait=False):
        pass
    process.kill()
    process.join()
    with storage.lock("locks/x", wait=False):
        pass


def test_an_unreadable_root_says_so(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        LocalStorage(tmp_path / "file").put("a/b", b"x")
