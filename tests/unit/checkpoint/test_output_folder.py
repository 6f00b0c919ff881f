"""Checkouts into directories that exist, and what interrupts and failures leave there."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from deltavcs.advice import Advice
from deltavcs.errors import AlreadyExistsError, DeltaVCSError, InvalidInputError, StorageError
from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.import_ import import_base
from deltavcs.repo import Repository, init_repository, open_repository
from deltavcs.resources import Resources
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import raw_tensor, write_checkpoint


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = write_checkpoint(tmp_path / "source", {"w": raw_tensor("BF16", [50, 50])})
    (folder / "sub").mkdir()
    (folder / "sub" / "notes.txt").write_text("notes")
    return folder


@pytest.fixture
def repo(tmp_path: Path, source: Path, sign) -> Repository:
    found = init_repository(tmp_path, sync=False)
    import_base(found, str(source), draft=Draft("m", signature=sign()))
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {str(x.relative_to(folder)): x.read_bytes() for x in folder.rglob("*") if x.is_file()}


def is_whole(out: Path, source: Path) -> bool:
    return files(source).items() <= files(out).items() and not list(out.glob(".*.partial"))


def interrupted_once(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
    """Ctrl-C after the first call."""
    real, calls = getattr(owner, name), []

    def call(*args, **kwargs):
        real(*args, **kwargs)
        calls.append(args)
        if len(calls) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(owner, name, call)


def test_an_interrupt_among_the_renames_waits_for_the_last(repo, source, tmp_path, monkeypatch) -> None:
    out = tmp_path / "out"
    out.mkdir()
    interrupted_once(monkeypatch, Path, "replace")
    with pytest.raises(KeyboardInterrupt):
        checkout_files(repo, "m", out)
    assert is_whole(out, source)


def test_an_interrupt_during_cleaning_up_leaves_no_draft(repo, source, tmp_path, monkeypatch) -> None:
    out = tmp_path / "out"
    out.mkdir()
    interrupted_once(monkeypatch, shutil, "rmtree")
    with pytest.raises(KeyboardInterrupt):
        checkout_files(repo, "m", out)
    assert is_whole(out, source)


def test_a_rename_that_fails_says_how_far_it_came(repo, tmp_path, monkeypatch) -> None:
    out = tmp_path / "out"
    out.mkdir()
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if self.name == "notes.txt":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(StorageError) as caught:
        checkout_files(repo, "m", out)
    in_place = len(files(out).keys() - {".dvx-checkout.json"})
    assert in_place
    assert f"cannot write {out / 'sub' / 'notes.txt'}: No space left on device; {in_place} of " in str(
        caught.value
    )
    assert caught.value.advice is Advice.MEND_AND_FORCE


@pytest.mark.parametrize("what", ["fifo", "file", "link", "dangling"])
def test_what_stands_where_a_folder_must_be_is_replaced(repo, source, tmp_path, what) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    at = out / "sub"
    {
        "fifo": lambda: os.mkfifo(at),
        "file": at.touch,
        "link": lambda: at.symlink_to(elsewhere),
        "dangling": lambda: at.symlink_to(tmp_path / "nothing"),
    }[what]()
    checkout_files(repo, "m", out, force=True)
    assert is_whole(out, source)
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("there", [True, False])
def test_what_appears_during_a_checkout_is_not_mixed_with_it(repo, tmp_path, there) -> None:
    out = tmp_path / "out"
    if there:
        out.mkdir()

    def intrude(stage: str, done: int, total: int) -> None:
        out.mkdir(exist_ok=True)
        (out / "theirs").touch()

    with pytest.raises(AlreadyExistsError, match="is not empty"):
        checkout_files(repo.using(resources=Resources(progress=intrude)), "m", out)
    assert [x.name for x in out.iterdir()] == ["theirs"]
    assert not list(tmp_path.glob(".*.partial"))


@pytest.mark.parametrize("where", [".dvx", ".dvx/packs", ".dvx/new"])
def test_the_repository_itself_is_no_output(repo, tmp_path, where) -> None:
    before = files(repo.path)
    with pytest.raises(InvalidInputError, match="inside the repository"):
        checkout_files(repo, "m", tmp_path / where, force=True)
    assert files(repo.path) == before


def test_a_link_to_nothing_is_no_output(repo, tmp_path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "nothing")
    with pytest.raises(AlreadyExistsError, match="link to what is not there"):
        checkout_files(repo, "m", tmp_path / "out")


def test_what_a_killed_checkout_left_is_no_part_of_a_checkpoint(repo, source, sign) -> None:
    before = repo.commit(repo.resolve("m")).manifest
    draft = source / ".0badcafe.partial"
    draft.mkdir()
    (draft / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes()[:100])
    import_base(repo, str(source), draft=Draft("after", signature=sign()))
    assert repo.commit(repo.resolve("after")).manifest == before


def test_checkout_fills_a_directory_that_is_there_instead_of_replacing_it(
    repo, source, tmp_path, monkeypatch
):
    # The shell that stood in it was left in a deleted one; a mount point could not be replaced at all.
    out = tmp_path / "out"
    out.mkdir()
    inode = out.stat().st_ino
    monkeypatch.chdir(out)
    checkout_files(repo, "m", Path())
    assert out.stat().st_ino == inode
    assert is_whole(out, source)
    assert {p.name for p in out.iterdir()} == {"model.safetensors", "sub", ".dvx-checkout.json"}


def test_checkout_into_a_link_to_an_empty_directory(repo, source, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    checkout_files(repo, "m", tmp_path / "out")
    assert (tmp_path / "out").is_symlink()
    assert is_whole(tmp_path / "disk", source)


def test_a_failed_checkout_leaves_an_empty_directory_empty(repo, source, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for pack in (repo.path / "packs").glob("*.pack"):
        data = bytearray(pack.read_bytes())
        data[-60] ^= 1
        pack.write_bytes(data)
    with pytest.raises(DeltaVCSError):
        checkout_files(open_repository(repo.path.parent), "m", out)
    assert list(out.iterdir()) == []
