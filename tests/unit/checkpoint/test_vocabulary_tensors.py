"""The tensors of a vocabulary by their names on disk, and how many rows are too many."""

from __future__ import annotations

import json

import pytest
from architectures import ARCHITECTURES, OTHER_ARCHITECTURES, VOCAB
from safetensors.torch import load_file

from deltavcs.checkpoint.vocabulary_tensors import added_rows, vocabulary_tensors


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpt_neox", {"gpt_neox.embed_in.weight": 0, "embed_out.weight": 0}),
        ("llava", {"language_model.model.embed_tokens.weight": 0, "language_model.lm_head.weight": 0}),
        ("bart", {"model.shared.weight": 0, "final_logits_bias": 1}),
    ],
)
def test_names_are_those_on_disk(name, expected, tmp_path):
    {**ARCHITECTURES, **OTHER_ARCHITECTURES}[name]().save_pretrained(tmp_path)
    names = load_file(tmp_path / "model.safetensors")
    found = vocabulary_tensors(names, (tmp_path / "config.json").read_bytes())
    assert found.axes == expected
    assert found.guessed is None
    assert found.rows == dict.fromkeys(expected, VOCAB)
    shapes = {k: tuple(v.shape) for k, v in names.items()}
    assert added_rows(found, shapes) == 0
    axis = expected[min(expected)]
    longer = list(shapes[min(expected)])
    longer[axis] += 3
    assert added_rows(found, {**shapes, min(expected): tuple(longer)}) == 3


@pytest.mark.parametrize(
    ("config", "why"),
    [(None, "no config.json"), (b"[]", "no object"), (json.dumps({"model_type": "odd"}).encode(), "'odd'")],
)
def test_names_alone_decide_where_no_model_does_and_it_is_said(config, why):
    found = vocabulary_tensors(["model.embed_tokens.weight", "model.norm.weight"], config)
    assert found.axes == {"model.embed_tokens.weight": 0}
    assert why in (found.guessed or "")
