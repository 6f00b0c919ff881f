"""The keys of tensors: of those that several shards hold, the one counts that transformers reads last."""

from __future__ import annotations

import json

import pytest

from deltavcs.checkpoint.arrangement import Overlaid, arrange
from deltavcs.errors import InvalidInputError

INDEX = "model.safetensors.index.json"
ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def arranged(tensors, weight_map=None, more=()):
    files = {INDEX: json.dumps({"weight_map": weight_map}).encode()} if weight_map is not None else {}
    return arrange(tensors, [*tensors, *files, *more], lambda path: files.get(path, b"{}"))


def test_primary_tensors_have_their_own_names():
    made = arranged({"model.safetensors": ["w"], "other.safetensors": ["w"], "sub/model.safetensors": ["w"]})
    assert made.keys == {
        ("model.safetensors", "w"): "w",
        ("other.safetensors", "w"): "other.safetensors::w",
        ("sub/model.safetensors", "w"): "sub/model.safetensors::w",
    }
    assert made.own == ("model.safetensors",)


@pytest.mark.parametrize(
    ("overlay", "said", "taken"),
    [
        ("model-overlay.safetensors", "model-overlay.safetensors", "model-overlay.safetensors"),
        ("a-overlay.safetensors", "a-overlay.safetensors", ONE),
        ("model-overlay.safetensors", ONE, "model-overlay.safetensors"),
    ],
)
def test_a_tensor_in_several_shards(overlay, said, taken):
    weight_map = {"w": said, "v": ONE, "u": overlay}
    made = arranged({ONE: ["w", "v"], overlay: ["w", "u"]}, weight_map)
    other = ({ONE, overlay} - {taken}).pop()
    assert made.keys[taken, "w"] == "w"
    assert made.keys[other, "w"] == f"{other}::w"
    assert made.overlaid == (Overlaid("w", taken, said),)
    assert made.problems == ()


def test_a_tensor_in_two_shards_without_an_index():
    with pytest.raises(InvalidInputError, match="in another shard as well"):
        arranged({ONE: ["w"], TWO: ["w"]})


def test_tensors_that_the_index_does_not_name_are_read_as_well():
    made = arranged({ONE: ["w", "x"], TWO: ["v"]}, {"w": ONE, "v": TWO})
    assert made.unnamed == ("x",)
    assert made.keys[ONE, "x"] == "x"


def test_tensors_that_no_file_holds():
    made = arranged({ONE: ["w"], TWO: ["v"]}, {"w": ONE, "v": TWO, "gone": TWO})
    assert made.problems == (f"{INDEX} names tensor gone, which none of its files holds",)
    many = arranged({ONE: ["w"], TWO: ["v"]}, dict.fromkeys("wabcdef", ONE) | {"v": TWO})
    assert "6 tensors (a, b, c and 3 more)" in many.problems[0]
    elsewhere = arranged({ONE: ["w"], TWO: ["v"]}, {"w": TWO, "v": ONE})
    assert elsewhere.problems == ()


def test_every_folder_is_looked_at():
    part = "text_encoder/model-00001-of-00002.safetensors"
    made = arranged({"vae/model.safetensors": ["w"], part: ["v"]}, more=["gguf/m-00001-of-00002.gguf"])
    assert len(made.problems) == 2
    assert made.problems[1].startswith("text_encoder/: model-00002-of-00002.safetensors is missing")
    assert made.problems[0].startswith("gguf/: m-00002-of-00002.gguf is missing")


def test_a_download_under_way():
    made = arranged({"model.safetensors": ["w"]}, more=["model.safetensors.aria2"])
    assert made.problems == ("model.safetensors has not been downloaded to its end",)


def test_shards_without_an_index_are_one_checkpoint():
    made = arranged({ONE: ["w"], TWO: ["v"]})
    assert set(made.keys.values()) == {"w", "v"}
    assert made.unindexed == (ONE, TWO)
