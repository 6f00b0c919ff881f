"""Damaged packs and indexes: right bytes or an error of ours, never a crash."""

from __future__ import annotations

import shutil

import pytest

from deltavcs.errors import ErrorKind, FormatError, IntegrityError
from deltavcs.porcelain.checkout import checkout_files
from deltavcs.repo import open_repository


@pytest.mark.parametrize("suffix", [".pack", ".idx"])
@pytest.mark.parametrize("of", ["a", "c", "d"])
def test_every_flipped_byte_of_a_pack_or_an_index(world, everything, tmp_path, suffix, of):
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
def test_truncated_packs(world, everything, tmp_path, cut):
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


def test_a_pack_that_a_gc_removes_while_packs_are_listed(world, everything, tmp_path, monkeypatch):
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
