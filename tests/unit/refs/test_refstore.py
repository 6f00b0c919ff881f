"""Compare-and-swap, the reflog."""

from __future__ import annotations

import threading

import pytest

from deltavcs.advice import Advice
from deltavcs.errors import AlreadyExistsError, ConflictError, ErrorKind, IntegrityError
from deltavcs.refs import ABSENT, RefStore
from deltavcs.signature import Signature
from deltavcs.storage import LocalStorage
from deltavcs.testing.storage import FaultyStorage

A, B, C = ("a" * 64, "b" * 64, "c" * 64)
WHEN = Signature("me", 1, "why")


@pytest.fixture
def refs(tmp_path):
    return RefStore(LocalStorage(tmp_path, sync=False))


def test_compare_and_swap(refs):
    ref = "refs/heads/x"
    assert refs.get(ref) is ABSENT
    refs.move(ref, expected=ABSENT, new=A, signature=WHEN)
    for expected, new in ((ABSENT, B), (B, C), (B, ABSENT)):
        with pytest.raises(ConflictError) as caught:
            refs.move(ref, expected=expected, new=new, signature=WHEN)
        assert caught.value.kind is ErrorKind.REF_MOVED and "x is now aaaaaaaaaaaa" in caught.value.message
        assert refs.get(ref) == A
    refs.move(ref, expected=A, new=B, signature=WHEN)
    refs.move(ref, expected=B, new=ABSENT, signature=WHEN)
    assert refs.get(ref) is ABSENT
    with pytest.raises(ConflictError):
        refs.move(ref, expected=B, new=C, signature=WHEN)
    assert [(e.old, e.new) for e in refs.log()] == [(None, A), (A, B), (B, None)]


def test_a_name_and_a_folder_exclude_each_other(refs):
    refs.move("refs/heads/a/b", expected=ABSENT, new=A, signature=WHEN)
    refs.move("refs/heads/x", expected=ABSENT, new=A, signature=WHEN)
    for ref in ("refs/heads/a", "refs/heads/a/b/c", "refs/heads/x/y", "refs/heads/x/y/z"):
        with pytest.raises(AlreadyExistsError) as caught:
            refs.move(ref, expected=ABSENT, new=A, signature=WHEN)
        assert caught.value.kind is ErrorKind.REF_EXISTS
    refs.move("refs/tags/a", expected=ABSENT, new=A, signature=WHEN)
    refs.move("refs/heads/a/b", expected=A, new=ABSENT, signature=WHEN)
    refs.move("refs/heads/a", expected=ABSENT, new=B, signature=WHEN)
    assert refs.get("refs/heads/a") == B


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"a" * 63, b"A" * 64, b"a" * 64 + b"\n\n", b"g" * 64, b"\xff" * 64]
)
def test_a_damaged_ref_is_an_integrity_error(refs, tmp_path, content):
    (tmp_path / "refs" / "heads").mkdir(parents=True)
    (tmp_path / "refs" / "heads" / "x").write_bytes(content)
    with pytest.raises(IntegrityError) as caught:
        refs.get("refs/heads/x")
    assert caught.value.kind is ErrorKind.CORRUPT and caught.value.advice is Advice.READ_REFLOG


def test_of_many_threads_one_wins(refs):
    outcomes = []

    def move(i):
        try:
            refs.move("refs/heads/x", expected=ABSENT, new=f"{i:064x}", signature=WHEN)
            outcomes.append(i)
        except ConflictError:
            pass

    threads = [threading.Thread(target=move, args=(i,)) for i in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(outcomes) == 1 and refs.get("refs/heads/x") == f"{outcomes[0]:064x}"


def test_a_ref_that_moved_is_moved_even_if_the_log_cannot_be_written(tmp_path):
    probe = FaultyStorage(tmp_path)
    RefStore(probe).move("refs/heads/p", expected=ABSENT, new=A, signature=WHEN)
    at = probe.changes.index(("append", "logs/refs.log"))
    refs = RefStore(FaultyStorage(tmp_path, fail_at=at))
    refs.move("refs/heads/x", expected=ABSENT, new=A, signature=WHEN)
    assert refs.get("refs/heads/x") == A
    assert [e.ref for e in refs.log()] == ["refs/heads/p"]


def test_the_reflog_holds_any_text(refs):
    author = 'a"\u2028\x85\\b'
    refs.move("refs/heads/x", expected=ABSENT, new=A, signature=Signature(author, 7, "first\nsecond"))
    (entry,) = refs.log()
    assert (entry.author, entry.time, entry.message, entry.new) == (author, 7, "first", A)
    refs.move("refs/heads/x", expected=A, new=B, signature=Signature("a", 8, "\n"))
    assert len(list(refs.log())) == 2
