"""A checkout into a directory that holds an earlier one: nothing stale stays, nothing of the user's goes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from deltavcs.advice import Advice
from deltavcs.checkpoint.marker import read_marker
from deltavcs.errors import AlreadyExistsError, ConflictError, InvalidInputError
from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.repo import Repository, init_repository
from deltavcs.resources import Resources
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import fine_tuned, raw_tensor, write_checkpoint

TENSORS = {"model.a": raw_tensor("BF16", [30, 20]), "model.b": raw_tensor("BF16", [30, 20], seed=1)}
MARKER = ".dvx-checkout.json"


@pytest.fixture(scope="module")
def repo(tmp_path_factory) -> Repository:
    """`one` in one file, `two` in two shards with an index, `tuned` of `one` with the same config."""
    root = tmp_path_factory.mktemp("over")
    found = init_repository(root, sync=False)
    same = {"config.json": b'{"model_type": "x"}', "README.md": b"read me"}
    write_checkpoint(root / "one", TENSORS, files=same | {"only/one.txt": b"1"})
    write_checkpoint(root / "two", TENSORS, shards=2, files=same)
    write_checkpoint(root / "tuned", fine_tuned(TENSORS, seed=1), files=same | {"only/one.txt": b"1"})
    import_base(found, str(root / "one"))
    import_base(found, str(root / "two"))
    commit(found, str(root / "tuned"), base="one", draft=Draft("tuned"))
    return found


def files(folder: Path) -> dict[str, bytes]:
    found = (x for x in folder.rglob("*") if x.is_file())
    return {str(x.relative_to(folder)): x.read_bytes() for x in found if x.name != MARKER}


def source(repo: Repository, name: str) -> dict[str, bytes]:
    return files(repo.path.parent / name)


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    found = (x for x in folder.rglob("*") if x.is_file() and x.name != MARKER)
    return {str(x.relative_to(folder)): (x.stat().st_ino, x.stat().st_mtime_ns) for x in found}


@pytest.mark.parametrize("how", [{"force": True}, {"update": True}], ids=str)
@pytest.mark.parametrize(("first", "then"), [("two", "one"), ("one", "two"), ("two", "one + (tuned - one)")])
def test_only_the_new_checkpoint_is_there_afterwards(repo, tmp_path, how, first, then) -> None:
    out = tmp_path / "out"
    checkout_files(repo, first, out)
    (out / "mine.txt").write_text("mine")
    done = checkout_files(repo, then, out, **how)
    expected = source(repo, then) if then != "one + (tuned - one)" else source(repo, "tuned")
    assert files(out) == expected | {"mine.txt": b"mine"}
    assert {"README.md", "config.json"} <= set(done.kept)
    assert set(done.removed) == source(repo, first).keys() - expected.keys()
    assert read_marker(out).commit == (done.commit or repo.resolve("one"))


@pytest.mark.parametrize("then", ["tuned", "one + (tuned - one)"])
def test_what_does_not_differ_is_not_touched(repo, tmp_path, then) -> None:
    out = tmp_path / "out"
    checkout_files(repo, "one", out)
    before = stamps(out)
    done = checkout_files(repo, then, out, update=True)
    after = stamps(out)
    assert done.changed == ("model.safetensors",)
    assert {k for k in before if before[k] != after[k]} == {"model.safetensors"}
    assert checkout_files(repo, then, out, update=True).changed == ()
    assert stamps(out) == after


def test_a_copied_directory_is_known_by_its_content(repo, tmp_path) -> None:
    checkout_files(repo, "one", tmp_path / "out")
    shutil.copytree(tmp_path / "out", tmp_path / "copy", copy_function=shutil.copyfile)
    done = checkout_files(repo, "two", tmp_path / "copy", update=True)
    assert files(tmp_path / "copy") == source(repo, "two")
    assert set(done.kept) == {"README.md", "config.json"}


def change_unseen(path: Path) -> None:
    """Other bytes of the same length, and the old modification time."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("how", [{"force": True}, {"update": True}], ids=str)
@pytest.mark.parametrize("then", ["two", "tuned"])
def test_weights_that_were_changed_are_never_replaced(repo, tmp_path, how, then) -> None:
    out = tmp_path / "out"
    checkout_files(repo, "one", out)
    change_unseen(out / "model.safetensors")
    before = files(out)
    with pytest.raises(
        AlreadyExistsError, match=r"model\.safetensors is not as a checkout wrote it"
    ) as caught:
        checkout_files(repo, then, out, **how)
    assert caught.value.advice is Advice.MOVE_FILES_AWAY
    assert files(out) == before
    assert read_marker(out).revision == "one"


FOREIGN = """pytorch_model.bin adapter_model.safetensors adapter_config.json model.safetensors.index.json
tf_model.h5 only/x.safetensors""".split()


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("with_marker", [True, False])
def test_weights_that_are_not_ours_refuse(repo, tmp_path, name, with_marker) -> None:
    out = tmp_path / "out"
    checkout_files(repo, "one", out)
    if not with_marker:
        (out / MARKER).unlink()
    (out / name).write_bytes(b"{}")
    before = files(out)
    with pytest.raises(AlreadyExistsError, match=name):
        checkout_files(repo, "one", out, force=True)
    assert files(out) == before


def test_what_a_trainer_saves_beside_them_stays(repo, tmp_path) -> None:
    out = tmp_path / "out"
    checkout_files(repo, "one", out)
    for name in ("training_args.bin", "optimizer.pt", "checkpoint-5/model.safetensors", "runs/x"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(b"t")
    checkout_files(repo, "two", out, update=True)
    assert files(out).keys() - source(repo, "two").keys() == {
        "training_args.bin", "optimizer.pt", "checkpoint-5/model.safetensors", "runs/x",
    }  # fmt: skip


def test_a_changed_plain_file_is_kept_by_an_update_and_replaced_by_force(repo, tmp_path) -> None:
    out = tmp_path / "out"
    checkout_files(repo, "one", out)
    (out / "README.md").write_text("changed by me")
    (out / "only" / "one.txt").write_text("changed too")
    with pytest.raises(AlreadyExistsError, match=r"README\.md"):
        checkout_files(repo, "two", out, update=True)
    done = checkout_files(repo, "two", out, force=True)
    assert done.stayed == ("only/one.txt",)
    assert files(out) == source(repo, "two") | {"only/one.txt": b"changed too"}
    # It is the user's from now on.
    assert checkout_files(repo, "two", out, update=True).stayed == ()


def test_a_deleted_file_comes_back(repo, tmp_path) -> None:
    out = tmp_path / "out"
    checkout_files(repo, "one", out)
    (out / "model.safetensors").unlink()
    done = checkout_files(repo, "one", out, update=True)
    assert done.changed == ("model.safetensors",)
    assert files(out) == source(repo, "one")


def test_other_links_to_a_file_keep_their_content(repo, tmp_path) -> None:
    out = tmp_path / "out"
    checkout_files(repo, "one", out)
    os.link(out / "model.safetensors", tmp_path / "linked")
    os.link(out / "README.md", tmp_path / "readme")
    before = (tmp_path / "linked").read_bytes()
    checkout_files(repo, "tuned", out, update=True)
    assert (tmp_path / "linked").read_bytes() == before
    assert (out / "model.safetensors").read_bytes() == source(repo, "tuned")["model.safetensors"]
    assert (out / "README.md").stat().st_ino == (tmp_path / "readme").stat().st_ino


def test_read_only_files_are_replaced_and_a_link_to_the_directory_is_followed(repo, tmp_path) -> None:
    (tmp_path / "disk").mkdir()
    out = tmp_path / "out"
    out.symlink_to(tmp_path / "disk")
    checkout_files(repo, "one", out)
    for path in out.rglob("*"):
        if path.is_file():
            path.chmod(0o444)
    checkout_files(repo, "two", out, update=True)
    assert out.is_symlink()
    assert files(tmp_path / "disk") == source(repo, "two")


@pytest.mark.parametrize("how", [{"force": True}, {"update": True}], ids=str)
def test_links_inside_lead_nothing_out(repo, tmp_path, how) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    checkout_files(repo, "one", out)
    shutil.move(out / "only", elsewhere)
    (out / "only").symlink_to(elsewhere)
    before = files(elsewhere)
    checkout_files(repo, "two", out, **how)
    assert files(elsewhere) == before
    (out / "model.safetensors").unlink(missing_ok=True)
    shutil.copy(repo.path.parent / "two" / "README.md", tmp_path / "aim")
    (out / "README.md").unlink()
    (out / "README.md").symlink_to(tmp_path / "aim")
    if "update" in how:
        with pytest.raises(AlreadyExistsError, match=r"README\.md|only"):
            checkout_files(repo, "one", out, **how)
    else:
        checkout_files(repo, "one", out, **how)
    assert files(elsewhere) == before
    assert (tmp_path / "aim").read_bytes() == b"read me"


@pytest.mark.parametrize("path", ["../gone", "/etc/passwd", "a/../../gone", "only/../../gone"])
def test_a_hostile_marker_removes_nothing_outside(repo, tmp_path, path) -> None:
    out = tmp_path / "out"
    checkout_files(repo, "one", out)
    (tmp_path / "gone").write_bytes(b"read me")
    marker = json.loads((out / MARKER).read_text())
    marker["files"][path] = marker["files"]["README.md"]
    (out / MARKER).write_text(json.dumps(marker))
    with pytest.raises(InvalidInputError, match="no checkout that could be updated"):
        checkout_files(repo, "two", out, update=True)
    assert (tmp_path / "gone").exists()


def test_a_checkout_that_is_in_the_way_can_be_updated(repo, tmp_path) -> None:
    checkout_files(repo, "one", tmp_path / "out")
    with pytest.raises(AlreadyExistsError, match="is not empty") as caught:
        checkout_files(repo, "one", tmp_path / "out")
    assert caught.value.advice is Advice.UPDATE_CHECKOUT
    assert caught.value.facts == {"directory": str(tmp_path / "out")}
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("mine")
    with pytest.raises(AlreadyExistsError, match="is not empty") as caught:
        checkout_files(repo, "one", tmp_path / "other")
    assert caught.value.advice is None


def test_an_update_needs_a_checkout(repo, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    for place in (tmp_path / "out", tmp_path / "none"):
        with pytest.raises(InvalidInputError, match="no checkout that could be updated"):
            checkout_files(repo, "one", place, update=True)


def test_the_marker_of_an_earlier_version_is_held_against_its_commit(repo, tmp_path) -> None:
    out = tmp_path / "out"
    checkout_files(repo, "two", out)
    old = {"commit": repo.resolve("two"), "revision": "two"}
    (out / MARKER).write_text(json.dumps(old))
    done = checkout_files(repo, "one", out, update=True)
    assert files(out) == source(repo, "one")
    assert len(done.removed) == 3
    change_unseen(out / "model.safetensors")
    (out / MARKER).write_text(json.dumps(old | {"commit": repo.resolve("one")}))
    with pytest.raises(AlreadyExistsError, match=r"model\.safetensors"):
        checkout_files(repo, "two", out, force=True)


def test_a_file_that_changes_meanwhile_is_not_lost(repo, tmp_path) -> None:
    out = tmp_path / "out"
    checkout_files(repo, "one", out)

    def change(stage: str, done: int, total: int) -> None:
        (out / "model.safetensors").write_bytes(b"trained")

    with pytest.raises(AlreadyExistsError, match=r"model\.safetensors"):
        checkout_files(repo.using(resources=Resources(progress=change)), "tuned", out, update=True)
    assert (out / "model.safetensors").read_bytes() == b"trained"


def test_two_checkouts_into_one_directory_do_not_mix(repo, tmp_path) -> None:
    out = tmp_path / "out"
    checkout_files(repo, "one", out)
    caught = []

    def second(stage: str, done: int, total: int) -> None:
        with pytest.raises(ConflictError) as found:
            checkout_files(repo, "two", out, force=True)
        caught.append(found.value)

    checkout_files(repo.using(resources=Resources(progress=second)), "tuned", out, update=True)
    assert caught
    assert files(out) == source(repo, "tuned")


def test_a_file_becomes_a_folder_and_back(tmp_path) -> None:
    found = init_repository(tmp_path, sync=False)
    write_checkpoint(tmp_path / "flat", TENSORS, files={"notes": b"n"})
    write_checkpoint(tmp_path / "deep", TENSORS, files={"notes/a/b.txt": b"n"})
    for name in ("flat", "deep"):
        import_base(found, str(tmp_path / name))
    out = tmp_path / "out"
    checkout_files(found, "flat", out)
    for name in ("deep", "flat"):
        checkout_files(found, name, out, update=True)
        assert files(out) == files(tmp_path / name)


def test_the_draft_of_another_checkout_is_not_cleared_away(repo, tmp_path) -> None:
    out = tmp_path / "out"
    checkout_files(repo, "one", out)
    (out / ".0badcafe.partial").mkdir()
    drafts = []

    def meanwhile(stage: str, done: int, total: int) -> None:
        drafts[:] = list(out.glob(".*.partial"))
        checkout_files(repo, "one", out, update=True)

    # A new directory within the other one: its draft lies there, too.
    checkout_files(repo.using(resources=Resources(progress=meanwhile)), "two", out / "sub")
    assert len(drafts) == 1
    assert files(out / "sub") == source(repo, "two")
    assert not list(out.glob(".*.partial"))
