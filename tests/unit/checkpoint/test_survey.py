"""Folders as people have them: odd names, links, pipes; one of them does not refuse the rest."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from deltavcs.advice import Advice
from deltavcs.checkpoint.intake import Cause, Intake, LeftOut
from deltavcs.checkpoint.survey import OutsideLink, survey_file, survey_folder
from deltavcs.errors import ErrorKind, FormatError, InvalidInputError, StorageError

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "m"
    (root / "sub").mkdir(parents=True)
    for name in ("model.safetensors", "config.json", "sub/x"):
        (root / name).write_bytes(b"12345")
    return root


KEPT = ["config.json", "model.safetensors", "sub/x"]


def causes(root: Path, intake: Intake | None = None) -> dict[str, Cause]:
    found = survey_folder(root, intake or Intake())
    assert sorted(found.files) == KEPT
    return {x.path: x.cause for x in found.left_out}


def fill(root: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


@pytest.mark.parametrize("where", ["", "sub/"])
def test_what_is_no_regular_file_is_left_out(folder, where, monkeypatch):
    os.mkfifo(folder / f"{where}pipe")
    monkeypatch.chdir(folder)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{where}sock")
    found = causes(folder)
    assert found == {f"{where}pipe": Cause.SPECIAL_FILE, f"{where}sock": Cause.SPECIAL_FILE}


@pytest.mark.parametrize(
    ("target", "cause"),
    [
        (".", Cause.LINK_LOOP),
        ("..", Cause.LINK_LOOP),
        ("../m", Cause.LINK_LOOP),
        ("sub/../../m", Cause.LINK_LOOP),
        ("link", Cause.BROKEN_LINK),
        ("nowhere", Cause.BROKEN_LINK),
    ],
)
def test_links_that_lead_nowhere_or_round_are_left_out(folder, target, cause):
    (folder / "link").symlink_to(target)
    assert causes(folder) == {"link": cause}


@pytest.mark.parametrize(
    "name",
    [
        "b\\c",
        "c:d",
        "new\nline",
        "\x7f",
        os.fsdecode(b"\xff\xfe"),
        "x" * 250 + "/" + "y" * 250 + "/" + "z" * 250 + "/" + "a" * 250 + "/" + "b" * 250,
    ],
)
def test_names_that_not_every_system_can_hold_are_left_out(folder, name):
    fill(folder, {name: b"1"})
    assert causes(folder) == {name: Cause.BAD_NAME}


@pytest.mark.parametrize(
    ("names", "left", "twin"),
    [
        (["README.md", "readme.md"], "readme.md", "README.md"),
        (["straße", "strasse"], "straße", "strasse"),
        (["SUB/y"], None, None),
        (["SUB/x"], "sub/x", "SUB/x"),
        (["A", "a/b"], "a/b", "A"),
        (["a", "A/b"], "a", "A/b"),
        (["CONFIG.JSON"], "CONFIG.JSON", "config.json"),
    ],
)
def test_of_names_that_differ_only_in_case_one_is_left_out(folder, names, left, twin):
    fill(folder, dict.fromkeys(names, b"1"))
    found = survey_folder(folder, Intake())
    assert [(x.path, x.cause, x.twin) for x in found.left_out] == [(left, Cause.SAME_NAME, twin)][
        : left is not None
    ]
    assert sorted([*found.files, *([left] if left else [])]) == sorted([*KEPT, *names])


@pytest.mark.parametrize(
    "name",
    ["a:b.safetensors", "a\nb.bin", "sub\\w.safetensors", os.fsdecode(b"\xff.gguf"), "MODEL.safetensors"],
)
def test_weights_with_such_a_name_refuse(folder, name):
    fill(folder, {name: b""})
    with pytest.raises(FormatError) as caught:
        survey_folder(folder, Intake())
    assert caught.value.kind is ErrorKind.BAD_PATH


@pytest.mark.parametrize(
    "name",
    ["w.safetensors", "sub/w.safetensors", "model.safetensors.index.json", "w.bin", "w.gguf",
     "sub/config.json", "adapter_config.json"],
)  # fmt: skip
@pytest.mark.parametrize("how", ["broken link", "pipe", "pointer"])
def test_weights_that_cannot_be_read_refuse(folder, name, how):
    if how == "broken link":
        (folder / name).symlink_to("gone")
    elif how == "pipe":
        os.mkfifo(folder / name)
    else:
        (folder / name).write_bytes(POINTER)
    with pytest.raises(InvalidInputError) as caught:
        survey_folder(folder, Intake())
    assert caught.value.kind is ErrorKind.BAD_CHECKPOINT
    assert name in caught.value.message
    assert caught.value.facts == {"path": name}
    assert caught.value.advice is (Advice.FETCH_POINTERS if how == "pointer" else Advice.MEND_OR_EXCLUDE)
    assert causes(folder, Intake(exclude=("/" + name,))) == {name: Cause.EXCLUDED}


def test_what_may_not_be_read(folder, monkeypatch):
    """As for anybody but root."""
    fill(folder, {"secret": b"1", "w.safetensors": b"1"})
    access = os.access
    hidden = {"secret"}
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name not in hidden and access(path, mode))
    intake = Intake(exclude=("w.safetensors",))
    assert causes(folder, intake) == {"secret": Cause.UNREADABLE, "w.safetensors": Cause.EXCLUDED}
    hidden.add("w.safetensors")
    with pytest.raises(InvalidInputError, match=r"w\.safetensors cannot be read"):
        survey_folder(folder, Intake())


def test_folders_that_may_not_be_read(folder, monkeypatch):
    (folder / "closed").mkdir()
    scandir = os.scandir

    def denied(path):
        if Path(path).name in closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    closed = {"closed"}
    assert causes(folder) == {"closed/": Cause.UNREADABLE}
    closed = {"m"}
    with pytest.raises(StorageError) as caught:
        survey_folder(folder, Intake())
    assert caught.value.kind is ErrorKind.PERMISSION_DENIED


def test_pointers_of_other_files_are_left_out(folder):
    fill(folder, {"picture.png": POINTER, "notes.md": b"# version https://git-lfs.github.com/spec/v1"})
    found = survey_folder(folder, Intake())
    assert [(x.path, x.cause) for x in found.left_out] == [("picture.png", Cause.LFS_POINTER)]
    assert "notes.md" in found.files


def test_folders_are_counted_as_one(folder):
    fill(folder, {"checkpoint-5/model.safetensors": b"123", "checkpoint-5/deep/optimizer.pt": b"45"})
    fill(folder, {"optimizer.pt": b"6", ".git/objects/aa": b"7890", "wandb/run/x": b""})
    (folder / "wandb" / "latest").symlink_to("run")
    found = survey_folder(folder, Intake())
    assert sorted(found.files) == KEPT
    assert found.left_out == [
        LeftOut(".git/", 4, 1, Cause.INTERNAL),
        LeftOut("checkpoint-5/", 5, 2, Cause.DEFAULT, holds_weights=True),
        LeftOut("optimizer.pt", 1, 1, Cause.DEFAULT),
        LeftOut("wandb/", 3, 2, Cause.DEFAULT),
    ]


def test_what_is_asked_for_is_taken_out_of_a_folder_that_is_left_out(folder):
    fill(folder, {"checkpoint-5/config.json": b"{}", "checkpoint-5/optimizer.pt": b"45", "runs/a": b"1"})
    found = survey_folder(folder, Intake(include=("checkpoint-5/*.json",)))
    assert "checkpoint-5/config.json" in found.files
    assert [(x.path, x.size) for x in found.left_out] == [("checkpoint-5/", 2), ("runs/", 1)]
    whole = survey_folder(folder, Intake(include=("checkpoint-5/",)))
    assert "checkpoint-5/optimizer.pt" in whole.files
    assert [x.path for x in whole.left_out] == ["runs/"]
    assert survey_folder(folder, Intake(include=(".git/", ".dvx/", "*"))).left_out == []


def test_what_belongs_to_the_tool_is_never_taken(folder):
    fill(
        folder,
        {".dvx/format": b"1", ".git/config": b"1", ".0123abcd.partial/x": b"1", ".dvx-checkout.json": b"{}"},
    )
    found = survey_folder(folder, Intake(include=("*", ".dvx/**", ".git/**")))
    assert sorted(found.files) == KEPT
    assert {x.cause for x in found.left_out} == {Cause.INTERNAL}


def test_the_ignore_file_of_the_source(folder):
    fill(folder, {".dvxignore": b"*.md\n!keep.md\nsub2/\n", "a.md": b"1", "keep.md": b"1", "sub2/x": b"1"})
    found = survey_folder(folder, Intake())
    assert sorted(found.files) == sorted([*KEPT, ".dvxignore", "keep.md"])
    assert {x.path: x.cause for x in found.left_out} == {"a.md": Cause.IGNORED, "sub2/": Cause.IGNORED}
    (folder / ".dvxignore").write_bytes(b"\xff")
    with pytest.raises(InvalidInputError, match="UTF-8"):
        survey_folder(folder, Intake())


def test_pickles_that_stand_there_as_safetensors_too(folder):
    fill(folder, {"pytorch_model.bin": b"1", "sub/pytorch_model.bin": b"1"})
    found = survey_folder(folder, Intake())
    assert [(x.path, x.cause) for x in found.left_out] == [("pytorch_model.bin", Cause.SUPERSEDED)]
    assert "sub/pytorch_model.bin" in found.files
    assert "pytorch_model.bin" in survey_folder(folder, Intake(include=("*.bin",))).files
    only = survey_folder(folder, Intake(exclude=("*.safetensors",)))
    assert "pytorch_model.bin" in only.files


def test_links_out_of_the_source_are_followed_and_named(folder, tmp_path):
    fill(tmp_path, {"other/config.json": b"{}", "other/deep/y": b"1"})
    (folder / "a.json").symlink_to(tmp_path / "other" / "config.json")
    (folder / "more").symlink_to(tmp_path / "other")
    (folder / "inside").symlink_to("sub/x")
    found = survey_folder(folder, Intake())
    assert {"a.json", "more/config.json", "more/deep/y", "inside"} <= found.files.keys()
    other = os.path.realpath(tmp_path / "other")
    assert found.links == [OutsideLink("a.json", f"{other}/config.json"), OutsideLink("more", other)]


def test_the_cache_of_the_hub_is_no_surprise(tmp_path):
    cache = tmp_path / "models--org--name"
    fill(cache, {"blobs/abc": b"1", "blobs/def": b"{}", "elsewhere": b"2"})
    snapshot = cache / "snapshots" / "0123"
    (snapshot / "sub").mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to("../../blobs/abc")
    (snapshot / "sub" / "config.json").symlink_to("../../../blobs/def")
    found = survey_folder(snapshot, Intake())
    assert sorted(found.files) == ["model.safetensors", "sub/config.json"]
    assert found.links == []
    (snapshot / "odd").symlink_to("../../elsewhere")
    assert [x.path for x in survey_folder(snapshot, Intake()).links] == ["odd"]


def test_one_file(tmp_path):
    fill(tmp_path, {"m.safetensors": b"1", "p.safetensors": POINTER})
    assert survey_file(tmp_path / "m.safetensors").files == {"m.safetensors": tmp_path / "m.safetensors"}
    with pytest.raises(InvalidInputError, match="Git LFS pointer"):
        survey_file(tmp_path / "p.safetensors")
