"""What a directory is held against: the commit that was checked out into it."""

from __future__ import annotations

import pytest
from lora_adapters import write_adapter
from two_versions import record_two_versions

from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.status import status
from deltavcs.steps.recording import Draft


@pytest.fixture
def history(repo, tmp_path, sign):
    record_two_versions(repo, tmp_path, sign)
    commit(repo, str(write_adapter(tmp_path / "lora")), base="v1", draft=Draft("lora", signature=sign()))
    return repo


@pytest.mark.parametrize("revision", ["v1", "chat", "lora"])
def test_a_checkout_is_unchanged(history, tmp_path, revision):
    checkout_files(history, revision, tmp_path / "out")
    found = status(history, tmp_path / "out")
    assert (found.name, found.how, found.clean) == (revision, "marker", True)


def test_an_adapter_that_was_changed_is_held_against_itself(history, tmp_path):
    checkout_files(history, "lora", tmp_path / "out")
    (tmp_path / "out/adapter_config.json").write_text("{}")
    (tmp_path / "out/adapter_model.safetensors").unlink()
    found = status(history, tmp_path / "out")
    assert found.name == "lora"
    assert found.files_changed == ("adapter_config.json",)
    assert len(found.tensors_removed) == 2
    assert not found.tensors_added


def test_a_folded_adapter_is_its_base_with_other_weights(history, tmp_path):
    checkout_files(history, "lora", tmp_path / "out", merge_adapter=True)
    found = status(history, tmp_path / "out")
    assert found.name == "v1"
    assert len(found.tensors_changed) == 1
    assert not found.tensors_added
