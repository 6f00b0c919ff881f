"""Sources that users name: what they are called, and where they came from."""

from __future__ import annotations

import pytest
from tiny_checkpoints import weights

from deltavcs.errors import DeltaVCSError, ErrorKind
from deltavcs.steps.sources import default_name, open_source
from deltavcs.testing.checkpoints import safetensors_bytes, write_checkpoint


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("runs/chat", "chat"),
        ("runs/chat/", "chat"),
        ("runs/chat.safetensors", "chat"),
        ("hf://org/Llama-3@v1.0", "Llama-3"),
        ("hf://org/Llama-3", "Llama-3"),
    ],
)
def test_a_branch_is_called_as_the_last_part(source, name):
    assert default_name(source) == name


def test_the_working_directory_has_a_name(tmp_path, monkeypatch):
    (tmp_path / "run-7").mkdir()
    monkeypatch.chdir(tmp_path / "run-7")
    assert default_name(".") == "run-7"


def test_a_directory_and_a_file_open_alike(repo, tmp_path):
    folder = write_checkpoint(tmp_path / "folder", weights())
    (tmp_path / "one.safetensors").write_bytes(safetensors_bytes(weights()))
    for path in (folder, tmp_path / "one.safetensors"):
        with open_source(repo, str(path)) as opened:
            assert opened.checkpoint.tensors.keys() == weights().keys()
            assert opened.origin == {"path": str(path)}
            assert opened.converted == ()


def test_a_relative_path_is_kept_as_an_absolute_one(repo, tmp_path, monkeypatch):
    write_checkpoint(tmp_path / "folder", weights())
    monkeypatch.chdir(tmp_path)
    with open_source(repo, "folder") as opened:
        assert opened.origin == {"path": str(tmp_path / "folder")}


def test_what_is_not_there_leaves_nothing_behind(repo, tmp_path):
    with pytest.raises(DeltaVCSError) as caught, open_source(repo, str(tmp_path / "nothing")):
        pass
    assert caught.value.kind is ErrorKind.UNKNOWN_SOURCE
    assert list((repo.path / "tmp").iterdir()) == []
