"""Objects and packs made by an enemy: an error of ours, never a crash, and nothing written outside."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from hostile_objects import (
    DERIVED,
    ENTRIES,
    MANIFESTS,
    PATHS,
    RAW,
    XOR,
    Entry,
    chain,
    cycle,
    fake,
    manifest,
    plain,
    plant,
    plant_true,
)

from deltavcs.errors import DeltaVCSError, ErrorKind, FormatError, IntegrityError
from deltavcs.objects.model import Commit, Kind, decode_commit, decode_manifest
from deltavcs.objects.small import frame_object, object_key
from deltavcs.oid import CommitId, ManifestId
from deltavcs.porcelain.checkout import checkout_files
from deltavcs.refs import ABSENT


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("index", [True, False])
def test_hostile_entries(repo, name, index):
    hostile = ENTRIES[name]
    repo = plant(repo, [hostile.entry, Entry(fake(2), raw=RAW)])
    if not index:
        for file in (repo.path / "packs").glob("*.idx"):
            file.unlink()
    tracemalloc.start()
    with pytest.raises((IntegrityError, FormatError)) as caught:
        repo.objects.blobs.read(fake(1), max_bytes=1 << 49)
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()
    assert caught.value.kind is (hostile.kind if index else hostile.unindexed)


@pytest.mark.parametrize("codec", [XOR, DERIVED])
def test_chains_up_to_the_limit_can_be_read(repo, codec):
    repo = plant(repo, chain(64, codec))
    assert repo.objects.blobs.read(fake(1), max_bytes=99) == RAW


@pytest.mark.parametrize("codec", [XOR, DERIVED])
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


@pytest.mark.parametrize("codec", [XOR, DERIVED])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_cycles(repo, codec, size):
    repo = plant(repo, cycle(size, codec))
    for i in range(1, size + 1):
        with pytest.raises(IntegrityError) as caught:
            repo.objects.blobs.read(fake(i), max_bytes=99)
        assert caught.value.kind is ErrorKind.DELTA_CYCLE


@pytest.mark.parametrize("name", MANIFESTS)
def test_malformed_manifests(name):
    data, kind = MANIFESTS[name]
    with pytest.raises(FormatError) as caught:
        decode_manifest(data)
    assert caught.value.kind is kind
    with pytest.raises(FormatError):
        decode_commit(data)


def checked_out(repo, folder, sign, manifest_bytes):
    """Put a manifest as it is and a commit of it, and check that out: the files, or none after an error."""
    manifest_id, framed = frame_object("manifest", manifest_bytes)
    repo.storage.put(object_key(manifest_id), framed)
    commit_id, framed = frame_object("commit", Commit(Kind.BASE, ManifestId(manifest_id)).encode())
    repo.storage.put(object_key(commit_id), framed)
    repo.refs.move("refs/heads/evil", expected=ABSENT, new=CommitId(commit_id), signature=sign())
    before = set(folder.rglob("*"))
    try:
        checkout_files(repo, "evil", folder / "cell" / "out")
    except DeltaVCSError:
        left = {q for q in set(folder.rglob("*")) - before if "cell" in q.parts or ".dvx" not in q.parts}
        assert left <= {folder / "cell"}
        return {}
    return {q.name: q.read_bytes() for q in (folder / "cell" / "out").iterdir() if q.name[0] != "."}


@pytest.mark.parametrize("path", PATHS)
def test_paths_that_lead_out(repo, tmp_path, sign, path):
    with pytest.raises(FormatError) as caught:
        decode_manifest(manifest([plain(path)]))
    assert caught.value.kind is PATHS[path]
    files = json.dumps({"files": [plain(path)], "tensors": {}}, sort_keys=True).encode()
    assert not checked_out(repo, tmp_path, sign, files)


@pytest.mark.parametrize("size", [0, 7, 15, 16, 17, 1000])
def test_sizes_that_lie_about_a_file(repo, tmp_path, sign, size):
    """The blob has 16 bytes: no checkout may cut it or fill it up and call that the file."""
    repo, blob = plant_true(repo, 16)
    out = checked_out(repo, tmp_path, sign, manifest([plain("a", blob, size)]))
    assert out == ({"a": bytes(range(16))} if size == 16 else {})


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
    repo, header = plant_true(repo, 20)
    repo, blob = plant_true(repo, 16, "tensor F32 [4]")
    size = 20 + int(np.prod(shape)) * (1 if dtype == "U8" else 4)
    file = {"path": "m.safetensors", "header": header, "size": size, "executable": False, "tensors": ["t"]}
    tensors = {"t": {"blob": blob, "dtype": dtype, "shape": shape}}
    out = checked_out(repo, tmp_path, sign, manifest([file], tensors))
    assert out == ({"m.safetensors": bytes(range(20)) + bytes(range(16))} if right else {})
