"""Storing content again mends what became of its stored copy."""

from __future__ import annotations

import pytest
from tiny_checkpoints import weights

import deltavcs as dv
from deltavcs.testing.checkpoints import fine_tuned, write_checkpoint


@pytest.fixture
def stored(tmp_path):
    """A repository with a base and a fine-tune, and their folders."""
    base = weights()
    write_checkpoint(tmp_path / "base", base, files={"config.json": b"{}"})
    write_checkpoint(tmp_path / "tuned", fine_tuned(base, seed=1), files={"config.json": b'{"a": 1}'})
    repo = dv.init(tmp_path / "repo", sync=False)
    dv.import_base(repo, str(tmp_path / "base"), draft=dv.Draft("base"))
    dv.commit(repo, str(tmp_path / "tuned"), base="base", draft=dv.Draft("tuned"))
    return repo


def _packs(repo):
    return sorted((repo.path / "packs").glob("*.pack"))


@pytest.mark.parametrize("keep", [0, 1, 40, -1])
@pytest.mark.parametrize("which", [0, 1])
def test_a_pack_that_was_cut(stored, tmp_path, keep, which):
    pack = _packs(stored)[which]
    pack.chmod(0o644)
    pack.write_bytes(pack.read_bytes()[:keep])
    repo = dv.open(tmp_path / "repo")
    dv.import_base(repo, str(tmp_path / "base"), draft=dv.Draft("base-again"))
    dv.commit(repo, str(tmp_path / "tuned"), base="base-again", draft=dv.Draft("tuned-again"))
    for name in ("base", "tuned"):
        again = dv.open(tmp_path / "repo")
        for revision in (name, f"{name}-again"):
            out = tmp_path / "out" / revision
            dv.checkout_files(again, revision, out)
            for file in ("model.safetensors", "config.json"):
                assert (out / file).read_bytes() == (tmp_path / name / file).read_bytes()


@pytest.mark.parametrize("damage", [b"", b"DVXO", b"\0" * 300])
def test_a_damaged_small_object(stored, tmp_path, damage):
    manifest = stored.commit(stored.resolve("tuned")).manifest
    path = stored.path / "objects" / manifest[:2] / manifest[2:]
    path.write_bytes(damage)
    repo = dv.open(tmp_path / "repo")
    dv.commit(repo, str(tmp_path / "tuned"), base="base", draft=dv.Draft("again"))
    dv.checkout_files(repo, "tuned", tmp_path / "out")
    assert dv.fsck(dv.open(tmp_path / "repo"), full=True).problems == ()


def _flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_an_entry_that_rotted(stored, tmp_path, which, share):
    pack = _packs(stored)[which]
    _flip(pack, int(len(pack.read_bytes()) * share))
    repo = dv.open(tmp_path / "repo")
    dv.import_base(repo, str(tmp_path / "base"), draft=dv.Draft("base-again"))
    dv.commit(repo, str(tmp_path / "tuned"), base="base-again", draft=dv.Draft("tuned-again"))
    again = dv.open(tmp_path / "repo")
    for name in ("base", "tuned", "base-again", "tuned-again"):
        dv.checkout_files(again, name, tmp_path / "out" / name)
        of = tmp_path / name.removesuffix("-again")
        assert (tmp_path / "out" / name / "model.safetensors").read_bytes() == (
            of / "model.safetensors"
        ).read_bytes()


def test_what_is_whole_is_not_stored_twice(stored, tmp_path):
    before = set(stored.objects.ids())
    made = dv.import_base(stored, str(tmp_path / "base"), draft=dv.Draft("again"))
    assert len(_packs(stored)) == 2
    # The commit, which has another time, and nothing beside it.
    assert set(stored.objects.ids()) - before == {made.recorded.commit}
    commit = stored.path / "objects" / made.recorded.commit[:2] / made.recorded.commit[2:]
    assert made.recorded.stored_bytes == commit.stat().st_size


def test_a_reader_that_was_open_takes_what_mended_a_blob(stored, tmp_path):
    """The mended copy is in a pack that came after it listed the packs."""
    reader = dv.open(tmp_path / "repo")
    dv.checkout_files(reader, "base", tmp_path / "before")
    packs = _packs(stored)
    for pack in packs:
        _flip(pack, int(len(pack.read_bytes()) * 0.5))
    reader = dv.open(tmp_path / "repo")
    assert reader.objects.packs.table.packs.keys() == {p.stem for p in packs}
    dv.import_base(dv.open(tmp_path / "repo"), str(tmp_path / "base"), draft=dv.Draft("again"))
    dv.checkout_files(reader, "base", tmp_path / "out")
    assert (tmp_path / "out/model.safetensors").read_bytes() == (
        tmp_path / "base/model.safetensors"
    ).read_bytes()


def test_damage_elsewhere_is_no_reason_not_to_store(stored, tmp_path):
    manifest = stored.commit(stored.resolve("tuned")).manifest
    (stored.path / "objects" / manifest[:2] / manifest[2:]).write_bytes(b"")
    repo = dv.open(tmp_path / "repo")
    write_checkpoint(tmp_path / "third", fine_tuned(weights(), seed=3))
    dv.commit(repo, str(tmp_path / "third"), base="base", draft=dv.Draft("third"))
    dv.commit(repo, str(tmp_path / "third"), base="base", draft=dv.Draft("fourth"))  # its weights are known
    dv.checkout_files(repo, "fourth", tmp_path / "out")


def test_damage_that_nobody_mended_is_told(stored, tmp_path):
    for pack in _packs(stored):
        _flip(pack, len(pack.read_bytes()) // 2)
    with pytest.raises(dv.IntegrityError):
        for name in ("base", "tuned"):
            dv.checkout_files(dv.open(tmp_path / "repo"), name, tmp_path / "out" / name)
