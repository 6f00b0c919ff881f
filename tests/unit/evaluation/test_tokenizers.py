"""Tokenizers are transformers' own; what comes with one is never run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from architectures import word_tokenizer
from folder_views import view_of_folder

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.evaluation.tokenizers import load_tokenizer_of
from deltavcs.repo import Repository


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tokenizer beside a module that would leave a file behind."""
    word_tokenizer(extra=["<x>"]).save_pretrained(tmp_path / "t")
    (tmp_path / "t/odd.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    return tmp_path / "t"


def change(folder: Path, **settings: Any) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **settings}))


def test_none(repo: Repository, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert load_tokenizer_of(repo.objects, view_of_folder(tmp_path / "empty")) is None


AUTO_MAP = {"AutoTokenizer": ["odd.Odd", "odd.OddFast"]}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"auto_map": AUTO_MAP},
        {"tokenizer_class": "NoSuchTokenizer"},
        {"tokenizer_class": "AutoModelForCausalLM"},
    ],
)
def test_a_file_that_says_all_needs_no_class(
    settings: dict[str, Any], folder: Path, repo: Repository
) -> None:
    change(folder, **settings)
    (folder / "config.json").write_text(
        json.dumps({"model_type": "odd", "auto_map": {"AutoConfig": "odd.C"}})
    )
    found = load_tokenizer_of(repo.objects, view_of_folder(folder))
    assert found("w1 <x>").input_ids == word_tokenizer(extra=["<x>"])("w1 <x>").input_ids
    assert not (folder.parent / "ran").exists()


@pytest.mark.parametrize("lacks_file", [False, True])
def test_a_class_of_its_own_is_refused(lacks_file: bool, folder: Path, repo: Repository) -> None:
    change(folder, tokenizer_class="OddTokenizer", auto_map=AUTO_MAP if not lacks_file else None)
    if lacks_file:
        (folder / "tokenizer.json").unlink()
    with pytest.raises(
        InvalidInputError, match="'OddTokenizer', needs code of its own, which is never run"
    ) as caught:
        load_tokenizer_of(repo.objects, view_of_folder(folder))
    assert caught.value.kind is ErrorKind.BAD_CHECKPOINT
    assert not (folder.parent / "ran").exists()


@pytest.mark.parametrize("data", ["{", "[]", "[" * 100_000])
def test_malformed_settings(data: str, folder: Path, repo: Repository) -> None:
    (folder / "tokenizer_config.json").write_text(data)
    with pytest.raises(InvalidInputError, match=r"tokenizer_config\.json is (malformed|no object)"):
        load_tokenizer_of(repo.objects, view_of_folder(folder))
