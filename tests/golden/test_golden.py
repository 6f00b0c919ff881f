"""A repository written by version 0.1.0 is read by this one, by the independent reader, and when damaged."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from dvx_reader import Reader

from deltavcs.errors import DeltaVCSError, ErrorKind, FormatError, IntegrityError
from deltavcs.porcelain.checkout import checkout_files
from deltavcs.repo import open_repository
from deltavcs.steps.recording import Draft
from deltavcs.testing.invariants import check_repository

GOLDEN = Path(__file__).parent / "repo-v1"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())


@pytest.fixture
def directory(tmp_path):
    shutil.copytree(GOLDEN / "dvx", tmp_path / ".dvx")
    return tmp_path


def sums(directory):
    return {
        p.relative_to(directory).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in directory.rglob("*")
        if p.is_file() and p.name != ".dvx-checkout.json"
    }


@pytest.mark.parametrize("name", EXPECTED)
def test_the_library_reads_it(directory, name):
    repo = open_repository(directory)
    checkout_files(repo, name, directory / "out")
    assert sums(directory / "out") == EXPECTED[name]


def test_the_independent_reader_reads_it():
    reader = Reader(GOLDEN / "dvx")
    refs = {r.split("/", 2)[2]: tip for r, tip in reader.refs().items()}
    assert refs.keys() == EXPECTED.keys()
    for name, tip in refs.items():
        read = {p: hashlib.sha256(d).hexdigest() for p, (d, _) in reader.read_files(tip).items()}
        assert read == EXPECTED[name]
    assert reader.codecs_seen >= {1, 4, 255}


def test_all_of_it_holds_and_is_small(directory):
    repo = check_repository(directory)
    assert [e.author for e in repo.refs.log()] == ["golden"] * 6
    assert repo.commit(repo.resolve("v2+chat")).parents_as("delta") == (repo.resolve("chat"),)
    assert repo.commit(repo.resolve("chat")).metadata == {"k": "v"}
    assert sum(p.stat().st_size for p in GOLDEN.rglob("*") if p.is_file()) < 40_000


# Damage, by name


def pack_of(directory, name, key="w"):
    repo = open_repository(directory)
    return directory / ".dvx" / "packs" / f"{_pack(repo, name, key)}.pack"


def _pack(repo, name, key):
    return repo.objects.packs.locate(repo.manifest(repo.resolve(name)).tensors[key].blob).pack


def base_missing(directory):
    pack = pack_of(directory, "v1")
    pack.unlink()
    pack.with_suffix(".idx").unlink()


def pack_truncated(directory):
    pack = pack_of(directory, "v2")
    pack.write_bytes(pack.read_bytes()[:-100])


def index_missing(directory):
    pack_of(directory, "chat").with_suffix(".idx").unlink()


def index_stale(directory):
    pack_of(directory, "chat").with_suffix(".idx").write_bytes(
        pack_of(directory, "v2").with_suffix(".idx").read_bytes()
    )


def index_empty(directory):
    pack_of(directory, "chat").with_suffix(".idx").write_bytes(b"")


def ref_dangling(directory):
    (directory / ".dvx" / "refs" / "heads" / "v2").write_text("e" * 64 + "\n")


def ref_garbage(directory):
    (directory / ".dvx" / "refs" / "heads" / "v2").write_bytes(b"\x00\xff")


def _object(directory, oid):
    return directory / ".dvx" / "objects" / oid[:2] / oid[2:]


def manifest_missing(directory):
    repo = open_repository(directory)
    _object(directory, repo.commit(repo.resolve("v2")).manifest).unlink()


def commit_swapped(directory):
    """One object stored under the id of another."""
    repo = open_repository(directory)
    shutil.copyfile(_object(directory, repo.resolve("v1")), _object(directory, repo.resolve("v2")))


def lineage_garbage(directory):
    (directory / ".dvx" / "index").mkdir(exist_ok=True)
    (directory / ".dvx" / "index" / "lineage.duckdb").write_bytes(b"garbage" * 1000)


def only_the_truth(directory):
    """Everything that can be derived is gone: logs, index, locks, tmp, pack indexes."""
    for folder in ("logs", "index", "locks", "tmp"):
        shutil.rmtree(directory / ".dvx" / folder, ignore_errors=True)
    for index in (directory / ".dvx" / "packs").glob("*.idx"):
        index.unlink()


BROKEN = {  # damage: the names that cannot be read any more, and why
    base_missing: (set(EXPECTED), {ErrorKind.MISSING_BASE, ErrorKind.MISSING_OBJECT}),
    pack_truncated: ({"v2", "chat", "v2+chat"}, {ErrorKind.TRUNCATED}),
    index_missing: (set(), set()),
    index_empty: (set(), set()),
    index_stale: (set(), set()),
    ref_dangling: ({"v2"}, {ErrorKind.MISSING_OBJECT}),
    ref_garbage: ({"v2"}, {ErrorKind.CORRUPT}),
    manifest_missing: ({"v2"}, {ErrorKind.MISSING_OBJECT}),
    commit_swapped: ({"v2"}, {ErrorKind.HASH_MISMATCH}),
    lineage_garbage: (set(), set()),
    only_the_truth: (set(), set()),
}


@pytest.mark.parametrize("damage", BROKEN, ids=lambda d: d.__name__)
def test_damage_hides_only_what_it_hurts(directory, damage):
    damage(directory)
    hurt, kinds = BROKEN[damage]
    unreadable = set()
    for name in EXPECTED:
        out = directory / f"out-{name}"
        try:
            checkout_files(open_repository(directory), name, out)
        except IntegrityError as exc:
            unreadable.add(name)
            assert exc.kind in kinds, exc
            assert not out.exists()
        else:
            assert sums(out) == EXPECTED[name]
    assert unreadable == hurt
    if not hurt:
        repo = open_repository(directory)
        for pack in repo.objects.packs.ids():
            repo.objects.packs.reindex(pack)
        check_repository(directory)


# The format file


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"format": 2}, ErrorKind.UNSUPPORTED_VERSION),
        ({"format": "1"}, ErrorKind.UNSUPPORTED_VERSION),
        ({"object_hash": "sha256"}, ErrorKind.UNSUPPORTED_VERSION),
        ({"features": {"read": ["encryption"], "write": []}}, ErrorKind.UNSUPPORTED_FEATURE),
        ({"features": []}, ErrorKind.BAD_HEADER),
        ({"features": {"read": [[]], "write": []}}, ErrorKind.BAD_HEADER),
    ],
)
def test_what_this_version_does_not_know_is_refused_first(directory, change, kind):
    file = directory / ".dvx" / "format"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    (directory / ".dvx" / "config.toml").write_bytes(b"\xff not read")
    with pytest.raises(FormatError) as caught:
        open_repository(directory)
    assert caught.value.kind is kind


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"1", b"\xff", b"[" * 60_000, b"{}" + b" " * 70_000])
def test_a_damaged_format_file(directory, data):
    (directory / ".dvx" / "format").write_bytes(data)
    with pytest.raises(FormatError):
        open_repository(directory)


def test_an_unknown_write_feature_makes_it_read_only(directory, sign, tmp_path):
    from deltavcs.porcelain.import_ import import_base

    file = directory / ".dvx" / "format"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"features": {"read": [], "write": ["new"]}}))
    repo = open_repository(directory)
    checkout_files(repo, "v1", directory / "out")
    before = repo.refs.all()
    with pytest.raises(DeltaVCSError) as caught:
        import_base(repo, str(directory / "out"), draft=Draft("again", signature=sign()))
    assert caught.value.kind is ErrorKind.UNSUPPORTED_FEATURE
    assert repo.refs.all() == before
