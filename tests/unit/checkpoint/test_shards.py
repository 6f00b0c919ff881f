"""Which files are the weights: as the libraries decide it; and whether they are all there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deltavcs.checkpoint.shards import folders_of, problem_of_others, shard_sets, weights_of

TWO = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
SHARDS = [*TWO.values()]
INDEX = "model.safetensors.index.json"
DIFFUSERS = "diffusion_pytorch_model.safetensors"
ADAPTER = ["adapter_config.json", "adapter_model.safetensors"]


def index(weight_map: dict[str, str]) -> bytes:
    return json.dumps({"metadata": {}, "weight_map": weight_map}).encode()


def weights(*names: str, **contents: bytes) -> Any:
    """The weights of a folder with these files; `contents` by `index` and `config`."""
    by_name = {
        name: contents.get("config" if name == "config.json" else "index", index(TWO)) for name in names
    }
    return weights_of(folders_of(by_name.keys(), by_name.__getitem__)[0])


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (["model.safetensors"], ["model.safetensors"]),
        (["any.safetensors"], ["any.safetensors"]),
        (["one.safetensors", "two.safetensors"], []),
        (["model.safetensors", "model.fp16.safetensors"], ["model.safetensors"]),
        (["model.fp16.safetensors"], ["model.fp16.safetensors"]),
        ([INDEX, *SHARDS], SHARDS),
        (["model.safetensors", INDEX, *SHARDS], ["model.safetensors"]),
        ([INDEX, *SHARDS, "consolidated.safetensors"], SHARDS),
        (["model.safetensors", "consolidated.safetensors"], ["model.safetensors"]),
        (["consolidated.safetensors"], ["consolidated.safetensors"]),
        (["model.fp16.safetensors.index.json", *SHARDS], SHARDS),
        (["model.safetensors.index.fp16.json", *SHARDS], SHARDS),
        (["model.safetensors", *ADAPTER], ["adapter_model.safetensors"]),
        (["model.safetensors", "adapter_model.safetensors"], ["model.safetensors"]),
        (ADAPTER, ["adapter_model.safetensors"]),
        (["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"],
         ["diffusion_pytorch_model.safetensors"]),
        ([*SHARDS, DIFFUSERS + ".index.json", DIFFUSERS], SHARDS),
        ([*SHARDS], SHARDS),
        ([*SHARDS, "other.safetensors"], SHARDS),
        (["model-00000-of-00002.safetensors", "model-00001-of-00002.safetensors"],
         ["model-00000-of-00002.safetensors", "model-00001-of-00002.safetensors"]),
        (["sub/model.safetensors"], []),
    ],
)  # fmt: skip
def test_the_weights_are_found(names, files):
    found = weights(*names)
    assert (list(found.files), found.problem) == (files, "")


def test_the_configuration_may_name_the_file():
    config = json.dumps({"transformers_weights": "new.safetensors"}).encode()
    found = weights("config.json", "model.safetensors", "new.safetensors", config=config)
    assert found.files == ("new.safetensors",)
    absent = weights("config.json", "model.safetensors", config=config)
    assert absent.files == ("model.safetensors",)


@pytest.mark.parametrize(
    "names",
    [
        ["model.safetensors", INDEX, *SHARDS],
        [INDEX, *SHARDS, "consolidated.safetensors", "model.fp16.safetensors"],
        ["model.safetensors", "model.fp16.safetensors", "pytorch_model.bin"],
        ["config.json", "new.safetensors", "model.safetensors", INDEX, *SHARDS],
        ["config.json", INDEX, *SHARDS],
    ],
)
def test_the_choice_is_that_of_transformers(tmp_path, names):
    from transformers.modeling_utils import DownloadKwargs, _get_resolved_checkpoint_files

    config = json.dumps({"transformers_weights": "new.safetensors"} if "new.safetensors" in names else {})
    for name in names:
        (tmp_path / name).write_bytes(config.encode() if name == "config.json" else index(TWO))
    theirs, _ = _get_resolved_checkpoint_files(
        str(tmp_path), None, None, None, None, False,
        transformers_explicit_filename=json.loads(config).get("transformers_weights"),
        download_kwargs=DownloadKwargs(),
    )  # fmt: skip
    ours = weights(*names, config=config.encode())
    assert [Path(f).name for f in theirs] == list(ours.files)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["y-1-of-3.safetensors"], "y-2-of-3.safetensors, y-3-of-3.safetensors are missing (1 of 3"),
        (["x-00001-of-00003.safetensors", "x-00003-of-00003.safetensors"], "x-00002-of-00003.safetensors is"),
        (["model-1-of-40.safetensors"], "model-4-of-40.safetensors and 36 more are missing (1 of 40"),
        (["model-00001-of-000163.safetensors"], "model-00002-of-000163.safetensors"),
        (["model.fp16-00001-of-00002.safetensors"], "model.fp16-00002-of-00002.safetensors is missing"),
        (["adapter_config.json", "adapter_model-00001-of-00002.safetensors"], "adapter_model-00002-of-00002"),
        ([INDEX, SHARDS[0]], "index.json names model-00002-of-00002.safetensors, which is not there"),
        ([INDEX], "which are not there"),
        (["a-1-of-1.safetensors", "b-1-of-1.safetensors"], "of two sets, and no index says"),
        (["shard-00001-model-00001-of-00001.safetensors"], "pieces of tensors"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(names, words):
    assert words in weights(*names).problem


def test_what_is_left_of_another_save_is_not_missing():
    old = "model-00001-of-00009.safetensors"
    assert weights(INDEX, *SHARDS, old).problem == ""
    assert weights("model.safetensors", old).problem == ""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"{", "is no index"),
        (b"[]", "is no index"),
        (index({}), "names no tensors"),
        (index({"w": "../x.safetensors"}), "outside of its folder"),
        (b'{"weight_map": {"w": 1}}', "is no index"),
    ],
)
def test_an_index_that_is_none(content, words):
    assert words in weights(INDEX, *SHARDS, index=content).problem


def test_shards_in_a_folder_of_their_own():
    inside = {"a": "parts/x.safetensors", "b": "./parts/y.safetensors"}
    found = weights(INDEX, "parts/x.safetensors", "parts/y.safetensors", index=index(inside))
    assert (found.files, found.problem) == (("parts/x.safetensors", "parts/y.safetensors"), "")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["pytorch_model-00001-of-00002.bin"], "pytorch_model-00002-of-00002.bin is missing"),
        (
            ["m-Q4_0-00002-of-00003.gguf"],
            "m-Q4_0-00001-of-00003.gguf, m-Q4_0-00003-of-00003.gguf are missing",
        ),
        (["flax_model-00001-of-00002.msgpack"], "flax_model-00002-of-00002.msgpack is missing"),
        (["pytorch_model.bin"], ""),
        (["train-00000-of-00003.parquet"], ""),
        (["pytorch_model.bin", "pytorch_model-00001-of-00002.bin"], ""),
    ],
)
def test_other_weights_that_are_not_all_there(names, words):
    found = problem_of_others(folders_of(names, lambda _: b"")[0])
    assert (words in found) if words else found == ""


def test_numbered_sets_are_told_apart():
    names = ["a-1-of-2.safetensors", "a-2-of-2.safetensors", "b-1-of-2.safetensors", "a-1-of-3.safetensors"]
    assert [s.names for s in shard_sets(names)] == [names[:2], [names[3]], [names[2]]]
    assert shard_sets(["a-0-of-0.safetensors", "lot-of-things.safetensors"]) == []
