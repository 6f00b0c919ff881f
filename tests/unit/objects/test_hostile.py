"""Damaged and malicious objects and packs: right bytes or an error of ours, never a crash."""

from __future__ import annotations

import contextlib
import json
import shutil
import struct
import tracemalloc

import numpy as np
import pytest
import xxhash
import zstandard
from blake3 import blake3

from deltavcs.errors import DeltaVCSError, ErrorKind, FormatError, IntegrityError
from deltavcs.objects import pack as p
from deltavcs.objects.model import decode_commit, decode_manifest
from deltavcs.objects.packindex import encode_index, make_records
from deltavcs.objects.small import frame_object, unframe_object
from deltavcs.oid import BlobId, CommitId
from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.transfer import transfer
from deltavcs.refs import ABSENT
from deltavcs.repo import init_repository, open_repository
from deltavcs.signature import Signature
from deltavcs.testing.checkpoints import fine_tuned, raw_tensor, write_checkpoint

ZERO = "0" * 64


# Flipped bytes


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A repository whose packs are small and hold a plain, a delta and a derived entry."""
    top = tmp_path_factory.mktemp("world")
    repo = init_repository(top / "repo", sync=False)
    base = {"w": raw_tensor("BF16", [40, 20], seed=1)}
    when = Signature("t", 1)
    import_base(repo, str(write_checkpoint(top / "a", base)), name="a", signature=when)
    target = write_checkpoint(top / "b", fine_tuned(base, seed=2))
    import_base(repo, str(target), name="b", signature=when)
    commit(
        repo, str(write_checkpoint(top / "c", fine_tuned(base, seed=3))), name="c", base="a", signature=when
    )
    transfer(repo, from_="c", to="b", name="d", signature=when)
    return repo


def everything(repo):
    """All bytes of all blobs by id, or the error that reading one gives."""
    found = {}
    for ref in ("a", "b", "c", "d"):
        manifest = repo.manifest(repo.resolve(ref))
        for x in (*manifest.files, *manifest.tensors.values()):
            try:
                found[x.blob] = repo.objects.blobs.read(x.blob, max_bytes=1 << 20)
            except DeltaVCSError as exc:
                found[x.blob] = exc
    return found


@pytest.mark.parametrize("suffix", [".pack", ".idx"])
@pytest.mark.parametrize("of", ["a", "c", "d"])
def test_every_flipped_byte_of_a_pack_or_an_index(world, tmp_path, suffix, of):
    blob = world.manifest(world.resolve(of)).tensors["w"].blob
    pack = world.objects.packs.locate(blob).pack
    right = everything(world)
    shutil.copytree(world.path, tmp_path / ".dvx")
    file = tmp_path / ".dvx" / "packs" / f"{pack}{suffix}"
    good = file.read_bytes()
    noticed = 0
    step = 1 if len(good) < 700 else 3
    for at in range(0, len(good), step):
        bad = bytearray(good)
        bad[at] ^= 1 << (at % 8)
        file.write_bytes(bad)
        seen = everything(open_repository(tmp_path))
        for blob, data in seen.items():
            if isinstance(data, Exception):
                assert isinstance(data, IntegrityError | FormatError), (at, data)
                noticed += 1
            else:
                assert data == right[blob], at
    if suffix == ".pack":
        assert noticed > len(good) // step // 2
    else:
        assert not noticed, "an index can be rebuilt: no damage of it may hide a blob"


@pytest.mark.parametrize("cut", [0, 1, 15, 16, 40, 200, -1, -24, -25])
def test_truncated_packs(world, tmp_path, cut):
    right = everything(world)
    shutil.copytree(world.path, tmp_path / ".dvx")
    for index in (True, False):
        for file in (tmp_path / ".dvx" / "packs").glob("*.pack"):
            file.write_bytes(file.read_bytes()[:cut])
            if not index:
                file.with_suffix(".idx").unlink(missing_ok=True)
        seen = everything(open_repository(tmp_path))
        assert all(isinstance(d, IntegrityError) or d == right[b] for b, d in seen.items())
        assert any(isinstance(d, IntegrityError) for d in seen.values())


def test_every_flipped_byte_of_a_small_object(world):
    oid = world.resolve("a")
    good = (world.path / "objects" / oid[:2] / oid[2:]).read_bytes()
    right = unframe_object(oid, good)
    for at in range(len(good)):
        for bit in (0, 3, 7):
            bad = bytearray(good)
            bad[at] ^= 1 << bit
            with contextlib.suppress(IntegrityError, FormatError):
                assert unframe_object(oid, bytes(bad)) == right
    for cut in range(len(good)):
        with pytest.raises(IntegrityError):
            unframe_object(oid, good[:cut])


def test_one_damaged_pack_leaves_the_others_readable(world, tmp_path):
    shutil.copytree(world.path, tmp_path / ".dvx")
    repo = open_repository(tmp_path)
    blob = repo.manifest(repo.resolve("b")).tensors["w"].blob
    pack = repo.objects.packs.locate(blob).pack
    (repo.path / "packs" / f"{pack}.pack").write_bytes(b"garbage")
    (repo.path / "packs" / f"{pack}.idx").unlink()
    repo = open_repository(tmp_path)
    checkout_files(repo, "a", tmp_path / "a")
    checkout_files(repo, "c", tmp_path / "c")
    with pytest.raises(IntegrityError) as caught:
        checkout_files(repo, "b", tmp_path / "b")
    assert caught.value.kind is ErrorKind.MISSING_OBJECT and repo.resolve("b")[:12] in caught.value.message
    with pytest.raises(IntegrityError) as caught:  # its operand is gone
        checkout_files(repo, "d", tmp_path / "d")
    assert caught.value.kind is ErrorKind.MISSING_BASE
    assert set(repo.objects.packs.damaged) == {pack}


# Bombs


@pytest.mark.parametrize("claimed", [1 << 20, 256 << 20, (256 << 20) + 1, 2**32 - 1])
def test_a_bomb_in_a_small_object(claimed):
    """A kilobyte of zstd that unfolds to 64 MiB, under a header that claims something else."""
    body = zstandard.ZstdCompressor().compress(bytes(64 << 20))
    tracemalloc.start()
    with pytest.raises(IntegrityError):
        unframe_object(ZERO, struct.pack("<4sBBHI", b"DVXO", 1, 1, 0, claimed) + body)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_a_frame_of_unknown_length_is_not_unfolded():
    body = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(64 << 20))
    with pytest.raises(IntegrityError):
        unframe_object(ZERO, struct.pack("<4sBBHI", b"DVXO", 1, 1, 0, 100) + body)


def test_later_versions_are_refused():
    for data in (b"DVXO\x02", b"DVXO\xff"):
        with pytest.raises(FormatError) as caught:
            unframe_object(ZERO, data.ljust(12, b"\0"))
        assert caught.value.kind is ErrorKind.UNSUPPORTED_VERSION


# Entries made by an enemy, who can compute checksums


def domain_of(n):
    return f"tensor U8 [{n}]"


def blob_id(domain, data):
    return BlobId(blake3(domain.encode() + b"\0" + data).hexdigest())


class Entry:
    """An entry as the enemy writes it: any field can be replaced."""

    def __init__(
        self,
        blob,
        *,
        raw=b"",
        base=None,
        codec=0,
        domain=None,
        side=b"",
        lengths=None,
        payload=None,
        log2=16,
        raw_bytes=None,
        hashes=None,
    ):
        self.blob = blob
        domain = domain if domain is not None else domain_of(len(raw))
        payload = raw if payload is None else payload
        n = p.chunk_count(len(raw) if raw_bytes is None else raw_bytes, log2)
        lengths = [len(payload)] * n if lengths is None else lengths
        chunks = np.zeros(len(lengths), p.CHUNK)
        chunks["length"] = lengths
        chunks["xxh3"] = hashes if hashes is not None else xxhash.xxh3_64_intdigest(raw)
        self.bytes = (
            p.encode_prefix(
                blob=blob,
                base=base,
                codec=codec,
                chunk_log2=log2,
                raw_bytes=len(raw) if raw_bytes is None else raw_bytes,
                domain=domain,
                side=side,
                chunks=chunks,
            )
            + payload
        )


def plant(repo, entries):
    """A pack of these entries, with an index, under its own name."""
    data = p.PACK_HEADER + b"".join(e.bytes for e in entries)
    data += p.encode_trailer(len(entries), len(data) + p.TRAILER_BYTES)
    pack = blake3(data).hexdigest()
    (repo.path / "packs" / f"{pack}.pack").write_bytes(data)
    heads, at = [], len(p.PACK_HEADER)
    for e in entries:
        with contextlib.suppress(FormatError):
            heads.append((at, p.decode_head(e.bytes)))
        at += len(e.bytes)
    (repo.path / "packs" / f"{pack}.idx").write_bytes(encode_index(make_records(heads), len(data)))
    return open_repository(repo.path.parent)


def derived(inputs, program, n=4):
    side = {
        "inputs": [{"blob": b, "elements": n} for b in inputs],
        "op": "linear",
        "params": {"program": program},
    }
    return json.dumps(side, sort_keys=True, separators=(",", ":")).encode()


def fake(i):
    return BlobId(f"{i:064x}")


def chain(length, codec):
    """Blob i stands on blob i + 1; the last one is plain."""
    raw = bytes(16)
    if codec == 255:
        links = [
            Entry(
                fake(i + 1),
                raw=raw,
                codec=255,
                domain="tensor F32 [4]",
                payload=b"",
                lengths=[0],
                side=derived([fake(i + 2)], [0]),
            )
            for i in range(length)
        ]
        return [*links, Entry(fake(length + 1), raw=raw, domain="tensor F32 [4]")]
    xor = zstandard.ZstdCompressor().compress(raw)
    links = [Entry(fake(i + 1), raw=raw, codec=2, base=fake(i + 2), payload=xor) for i in range(length)]
    return [*links, Entry(fake(length + 1), raw=raw)]


@pytest.mark.parametrize("codec", [2, 255])
def test_chains_up_to_the_limit_can_be_read(repo, codec):
    repo = plant(repo, chain(64, codec))
    assert repo.objects.blobs.read(fake(1), max_bytes=99) == bytes(16)


@pytest.mark.parametrize("codec", [2, 255])
@pytest.mark.parametrize("length", [65, 500, 5000])
@pytest.mark.parametrize("from_the_bottom", [False, True])
def test_chains_that_are_too_deep(repo, codec, length, from_the_bottom):
    repo = plant(repo, chain(length, codec))
    if from_the_bottom:  # what was read before must not shorten the count
        for i in range(length + 1, length - 60, -1):
            repo.objects.blobs.read(fake(i), max_bytes=99)
    with pytest.raises(IntegrityError) as caught:
        repo.objects.blobs.read(fake(1), max_bytes=99)
    assert caught.value.kind is ErrorKind.DELTA_CYCLE


@pytest.mark.parametrize("codec", [2, 255])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_cycles(repo, codec, size):
    entries = chain(size, codec)[:-1]
    entries[-1] = Entry(
        fake(size),
        raw=bytes(16),
        codec=codec,
        base=fake(1) if codec == 2 else None,
        domain="tensor F32 [4]" if codec == 255 else None,
        payload=b"",
        lengths=[0],
        side=derived([fake(1)], [0]) if codec == 255 else b"",
    )
    repo = plant(repo, entries)
    for i in range(1, size + 1):
        with pytest.raises(IntegrityError) as caught:
            repo.objects.blobs.read(fake(i), max_bytes=99)
        assert caught.value.kind is ErrorKind.DELTA_CYCLE


HOSTILE = {
    "missing base": Entry(fake(1), raw=bytes(16), codec=2, base=fake(9), payload=b"x"),
    "missing input": Entry(
        fake(1),
        raw=bytes(16),
        codec=255,
        domain="tensor F32 [4]",
        payload=b"",
        lengths=[0],
        side=derived([fake(9)], [0]),
    ),
    "delta without base": Entry(fake(1), raw=bytes(16), codec=2, payload=b"x"),
    "plain with base": Entry(fake(1), raw=bytes(16), codec=0, base=fake(2)),
    "raw payload too short": Entry(fake(1), raw=bytes(16), payload=b"short"),
    "raw payload too long": Entry(fake(1), raw=bytes(16), payload=bytes(17)),
    "payload past the end": Entry(fake(1), raw=bytes(16), lengths=[900]),
    "lengths overflow": Entry(fake(1), raw=bytes(200_000), lengths=[2**32 - 1] * 4),
    "wrong checksum": Entry(fake(1), raw=bytes(16), hashes=[1]),
    "2^48 bytes": Entry(fake(1), raw=b"", raw_bytes=2**48, log2=26, domain=domain_of(2**48), lengths=[0] * 3),
    "domain lies": Entry(fake(1), raw=bytes(16), domain=domain_of(17)),
    "domain with leading zero": Entry(fake(1), raw=bytes(16), domain="tensor U8 [016]"),
    "domain is nonsense": Entry(fake(1), raw=bytes(16), domain="tensor [] U8"),
    "domain of unknown dtype": Entry(fake(1), raw=bytes(16), domain="tensor Q8 [16]"),
    "domain of commit": Entry(fake(1), raw=bytes(16), domain="commit"),
    "domain of too many dimensions": Entry(fake(1), raw=b"", domain="tensor U8 [0" + ",9" * 600 + "]"),
    "codec 5": Entry(fake(1), raw=bytes(16), codec=5),
    "plain planes of nothing": Entry(fake(1), raw=bytes(16), codec=1, payload=b"\0"),
    "bomb": Entry(
        fake(1), raw=bytes(16), codec=1, payload=zstandard.ZstdCompressor().compress(bytes(99_999))[:40]
    ),
    "side of a plain codec": Entry(fake(1), raw=bytes(16), codec=1, side=b"x", payload=b"x"),
    "exponents of bytes": Entry(fake(1), raw=bytes(16), codec=3, side=b"\1\0\0\0\0\0", payload=b"\2"),
    "exponents without tables": Entry(
        fake(1), raw=bytes(16), domain="tensor BF16 [8]", codec=3, payload=b"\2"
    ),
    "derived file": Entry(
        fake(1),
        raw=bytes(16),
        codec=255,
        domain="file",
        payload=b"",
        lengths=[0],
        side=derived([fake(2)], [0]),
    ),
    "derived integers": Entry(
        fake(1),
        raw=bytes(16),
        codec=255,
        domain="tensor I32 [4]",
        payload=b"",
        lengths=[0],
        side=derived([fake(2)], [0]),
    ),
    "derived from bytes": Entry(
        fake(1),
        raw=bytes(16),
        codec=255,
        domain="tensor F32 [4]",
        payload=b"",
        lengths=[0],
        side=derived([fake(2)], [0]),
    ),
    "derived without side": Entry(
        fake(1), raw=bytes(16), codec=255, domain="tensor F32 [4]", payload=b"", lengths=[0]
    ),
    "deep side": Entry(
        fake(1),
        raw=bytes(16),
        codec=255,
        domain="tensor F32 [4]",
        payload=b"",
        lengths=[0],
        side=b"[" * 100_000,
    ),
    "unknown operator": Entry(
        fake(1),
        raw=bytes(16),
        codec=255,
        domain="tensor F32 [4]",
        payload=b"",
        lengths=[0],
        side=derived([fake(2)], [0]).replace(b"linear", b"lineal"),
    ),
    "program without inputs": Entry(
        fake(1),
        raw=bytes(16),
        codec=255,
        domain="tensor F32 [4]",
        payload=b"",
        lengths=[0],
        side=derived([], []),
    ),
    "program of nobody": Entry(
        fake(1),
        raw=bytes(16),
        codec=255,
        domain="tensor F32 [4]",
        payload=b"",
        lengths=[0],
        side=derived([fake(2)], [1]),
    ),
    "another blob": Entry(fake(7), raw=bytes(16)),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("index", [True, False])
def test_hostile_entries(repo, case, index):
    entry = HOSTILE[case]
    repo = plant(repo, [entry, Entry(fake(2), raw=bytes(16))])
    if not index:
        for file in (repo.path / "packs").glob("*.idx"):
            file.unlink()
    tracemalloc.start()
    with pytest.raises((IntegrityError, FormatError)):
        repo.objects.blobs.read(fake(1), max_bytes=1 << 49)
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


# Manifests and commits made by an enemy


def manifest(files=(), tensors=None):
    return json.dumps({"files": list(files), "tensors": tensors or {}}).encode()


def plain(path, blob=ZERO, size=0, **more):
    return {"path": path, "blob": blob, "size": size, "executable": False, **more}


PATHS = [
    "../x",
    "a/../../x",
    "/etc/passwd",
    "..",
    ".",
    "",
    "a//b",
    "a/./b",
    "./a",
    "a/",
    "C:\\x",
    "a\\..\\b",
    "C:x",
    "nul\0",
    "a\nb",
    ".dvx/config.toml",
    ".DVX/x",
    ".dvx",
    "x" * 1025,
    "\ud800",
    "a\x7f",
]


@pytest.mark.parametrize("path", PATHS)
def test_paths_that_lead_out(repo, tmp_path, sign, path):
    with pytest.raises(FormatError) as caught:
        decode_manifest(manifest([plain(path)]))
    assert caught.value.kind is ErrorKind.BAD_PATH or path == "\ud800"
    files = json.dumps({"files": [plain(path)], "tensors": {}}, sort_keys=True).encode()
    assert not checked_out(repo, tmp_path, sign, files)


def checked_out(repo, tmp_path, sign, manifest_bytes):
    """Plant a manifest and a commit by hand and check them out; the files, or nothing after an error."""
    oid, framed = frame_object("manifest", manifest_bytes)
    (repo.path / "objects" / oid[:2]).mkdir(parents=True, exist_ok=True)
    (repo.path / "objects" / oid[:2] / oid[2:]).write_bytes(framed)
    value = {
        "author": "",
        "kind": "base",
        "manifest": oid,
        "message": "",
        "metadata": {},
        "parents": [],
        "recipe": None,
        "source": {},
        "stats": None,
        "task": None,
        "time": 0,
    }
    commit_id, framed = frame_object("commit", json.dumps(value, sort_keys=True).encode())
    (repo.path / "objects" / commit_id[:2]).mkdir(parents=True, exist_ok=True)
    (repo.path / "objects" / commit_id[:2] / commit_id[2:]).write_bytes(framed)
    repo.refs.move("refs/heads/evil", expected=ABSENT, new=CommitId(commit_id), signature=sign())
    before = set(tmp_path.rglob("*"))
    try:
        checkout_files(repo, "evil", tmp_path / "cell" / "out")
    except DeltaVCSError:
        left = {q for q in set(tmp_path.rglob("*")) - before if "cell" in q.parts or ".dvx" not in q.parts}
        assert left <= {tmp_path / "cell"}
        return {}
    return {q.name: q.read_bytes() for q in (tmp_path / "cell" / "out").iterdir() if q.name[0] != "."}


MANIFESTS = {
    "the same path twice": [plain("a"), plain("a")],
    "paths that differ in case": [plain("a/B"), plain("A/b")],
    "a file and a folder": [plain("a"), plain("a/b")],
    "a folder in another case": [plain("A"), plain("a/b")],
    "negative size": [plain("a", size=-1)],
    "size is true": [plain("a", size=True)],
    "size is huge": [plain("a", size=2**63)],
    "more fields": [plain("a", link="/etc")],
    "blob and header": [plain("a", header=ZERO)],
    "not an id": [plain("a", blob="../../x")],
    "short id": [plain("a", blob="0" * 63)],
    "id in capitals": [plain("a", blob="A" * 64)],
    "path is a number": [plain(5)],
    "unknown tensor": [{"path": "a", "header": ZERO, "size": 9, "executable": False, "tensors": ["x"]}],
    "not a list": {"a": 1},
    "executable is 1": [plain("a") | {"executable": 1}],
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_malformed_manifests(case):
    with pytest.raises(FormatError):
        decode_manifest(json.dumps({"files": MANIFESTS[case], "tensors": {}}).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b"\xff",
        b'{"files":[],"files":[],"tensors":{}}',
        b"[" * 100_000,
        b'{"files":[],"tensors":{},"x":' + b"[" * 40 + b"]" * 40 + b"}",
        b'{"files":[],"tensors":{"a":{"blob":"' + b"0" * 64 + b'","dtype":"F32","shape":[1e3]}}}',
        b'{"files":[],"tensors":{"a":{"blob":"'
        + b"0" * 64
        + b'","dtype":"F32","shape":['
        + b"281474976710656," * 30
        + b"2]}}}",
    ],
)
def test_what_is_no_manifest_and_no_commit(data):
    with pytest.raises(FormatError):
        decode_manifest(data)
    with pytest.raises(FormatError):
        decode_commit(data)


def planted_file(repo, n, name="file"):
    raw = bytes(range(n))
    blob = blob_id(name, raw)
    return plant(repo, [Entry(blob, raw=raw, domain=name)]), blob


@pytest.mark.parametrize("size", [0, 7, 15, 17, 1000])
def test_sizes_that_lie_about_a_file(repo, tmp_path, sign, size):
    """The blob has 16 bytes: no checkout may cut it or fill it up and call that the file."""
    repo, blob = planted_file(repo, 16)
    assert not checked_out(repo, tmp_path, sign, manifest([plain("a", blob, size)]))


def test_sizes_that_do_not_lie(repo, tmp_path, sign):
    repo, blob = planted_file(repo, 16)
    assert checked_out(repo, tmp_path, sign, manifest([plain("a", blob, 16)])) == {"a": bytes(range(16))}


@pytest.mark.parametrize(
    ("dtype", "shape", "right"),
    [
        ("F32", [4], True),
        ("F32", [2], False),
        ("F32", [2, 2], False),
        ("F32", [5], False),
        ("F32", [4, 1], False),
        ("I32", [4], False),
        ("U8", [16], False),
    ],
)
def test_tensors_that_are_not_what_the_manifest_says(repo, tmp_path, sign, dtype, shape, right):
    """The blob is a `tensor F32 [4]`: nothing may be read as if it were another one."""
    repo, header = planted_file(repo, 20)
    repo, blob = planted_file(repo, 16, "tensor F32 [4]")
    size = 20 + int(np.prod(shape)) * (1 if dtype == "U8" else 4)
    file = {"path": "m.safetensors", "header": header, "size": size, "executable": False, "tensors": ["t"]}
    tensors = {"t": {"blob": blob, "dtype": dtype, "shape": shape}}
    out = checked_out(repo, tmp_path, sign, manifest([file], tensors))
    assert out == ({"m.safetensors": bytes(range(20)) + bytes(range(16))} if right else {})


def test_a_pack_that_a_gc_removes_while_packs_are_listed(world, tmp_path, monkeypatch):
    """Readers take no lock: between the listing and the opening of a pack it may go."""
    shutil.copytree(world.path, tmp_path / ".dvx")
    repo = open_repository(tmp_path)
    listed = repo.storage.list
    gone = f"packs/{'f' * 64}.pack"
    monkeypatch.setattr(
        repo.storage, "list", lambda prefix: [*listed(prefix), *([gone] if prefix == "packs" else [])]
    )
    right = everything(world)
    assert everything(repo) == right and not repo.objects.packs.damaged
