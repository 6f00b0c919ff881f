"""What a gc keeps: everything that someone may want back."""

from __future__ import annotations

import shutil

import pytest
from tiny_checkpoints import weights

import deltavcs as dv
from deltavcs.testing.checkpoints import write_checkpoint

DAY = 24 * 3600 * 1_000_000


@pytest.fixture
def clock():
    """The time, which a test may move."""
    return [1_700_000_000 * 1_000_000]


@pytest.fixture
def world(tmp_path, clock):
    """A repository with a base, and `lost`, whose branch was deleted."""
    repo = dv.init(tmp_path / "world", sync=False)
    repo = repo.using(identity=dv.Identity("Ada", lambda: clock[0]))
    for seed, name in enumerate(("base", "lost")):
        write_checkpoint(tmp_path / name, weights(seed))
        dv.import_base(repo, str(tmp_path / name), draft=dv.Draft(name))
    dv.delete_branch(repo, "lost")
    return repo


def _lost(repo):
    return next(move.old for move in dv.reflog(repo, "lost") if move.new is None)


def test_a_deleted_branch_can_be_made_again_for_two_weeks(world, clock, tmp_path):
    clock[0] += 13 * DAY
    assert not dv.gc(world).packs
    dv.branch(world, "found", _lost(world))
    dv.checkout_files(world, "found", tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (
        tmp_path / "lost" / "model.safetensors"
    ).read_bytes()


def test_after_two_weeks_it_goes(world, clock):
    clock[0] += 15 * DAY
    assert len(dv.gc(world).packs) == 1
    assert dv.fsck(world, full=True).problems == ()


def test_without_grace_it_goes_at_once(world):
    assert len(dv.gc(world, grace_days=0).packs) == 1


@pytest.mark.parametrize("days", [-1, float("nan"), float("inf")])
def test_a_grace_is_a_number_of_days(world, days):
    with pytest.raises(dv.InvalidInputError, match="grace_days"):
        dv.gc(world, grace_days=days)


@pytest.mark.parametrize("how", ["emptied", "removed", "heads removed"])
def test_refs_that_are_gone_are_damage_and_no_reason_to_remove_everything(world, how):
    refs = world.storage.root / "refs"
    shutil.rmtree(refs / "heads" if how == "heads removed" else refs)
    if how == "emptied":
        (refs / "heads").mkdir(parents=True)
    with pytest.raises(dv.IntegrityError, match="was lost"):
        dv.gc(world, grace_days=0)
    assert any("was lost" in problem.detail for problem in dv.fsck(world).problems)


@pytest.mark.parametrize("part", ["refs", "refs/heads", "refs/heads/base"])
def test_refs_behind_a_link_are_kept(world, tmp_path, part):
    path = world.storage.root / part
    moved = tmp_path / "moved"
    path.rename(moved)
    path.symlink_to(moved)
    dv.gc(world, grace_days=0)
    dv.checkout_files(world, "base", tmp_path / "out")


def test_a_second_copy_of_a_ref_keeps_its_commits(world):
    copy = world.storage.root / "refs" / "heads" / "base (conflicted copy)"
    copy.write_text(_lost(world) + "\n")
    assert not dv.gc(world, grace_days=0).packs


def test_an_emptied_ref_keeps_what_it_named_last(world, tmp_path):
    tip = world.resolve("base")
    (world.storage.root / "refs" / "heads" / "base").write_text("")
    dv.import_base(world, str(tmp_path / "base"), draft=dv.Draft("again"))
    assert len(dv.gc(world, grace_days=0).packs) == 1  # that of `lost`
    dv.delete_branch(world, "base")
    dv.branch(world, "base", tip)
    dv.checkout_files(world, "base", tmp_path / "out")
