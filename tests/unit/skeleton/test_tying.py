"""How a config.json says that a head is no longer its embedding, and when it cannot."""

from __future__ import annotations

import json

import pytest
from architectures import ARCHITECTURES, OTHER_ARCHITECTURES

from deltavcs.skeleton.skeleton import build_skeleton
from deltavcs.skeleton.tying import how_to_untie, left_untied, untied


def _config(name: str) -> bytes:
    model = {**ARCHITECTURES, **OTHER_ARCHITECTURES}[name]()
    model.config.architectures = [type(model).__name__]
    return json.dumps(model.config.to_dict()).encode()


@pytest.mark.parametrize("name", ["llama-tied", "gpt2", "gemma3", "bart", "bert-mlm", "opt"])
def test_the_settings_untie_the_model(name):
    config = _config(name)
    tied = build_skeleton(config).tied
    assert tied
    paths = how_to_untie(config, tied)
    assert paths
    assert build_skeleton(untied(config, paths)).tied == {}


def test_a_model_that_ties_nothing_needs_no_setting():
    assert how_to_untie(_config("llama"), ["lm_head.weight"]) == ()


def test_t5_scales_its_output_by_that_setting_and_keeps_it():
    config = _config("t5")
    assert "lm_head.weight" in build_skeleton(config).tied
    assert how_to_untie(config, ["lm_head.weight"]) == ()
    assert left_untied(config, ["lm_head.weight"]) == frozenset()


def test_what_else_the_setting_tied_is_named():
    # One setting ties the head of BART and both its embeddings.
    assert left_untied(_config("bart"), ["lm_head.weight"]) == {
        "lm_head.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight",
    }  # fmt: skip


def test_a_setting_that_the_file_leaves_to_its_class_is_written_down():
    config = json.loads(_config("gemma3"))
    config.pop("tie_word_embeddings", None)
    config["text_config"].pop("tie_word_embeddings", None)
    data = json.dumps(config).encode()
    paths = how_to_untie(data, ["lm_head.weight"])
    assert paths
    assert build_skeleton(untied(data, paths)).tied == {}
