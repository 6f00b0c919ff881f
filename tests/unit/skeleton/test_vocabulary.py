"""The vocabulary of a model is what grows when tokens are added, whatever it is called."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from architectures import ARCHITECTURES, OTHER_ARCHITECTURES, VOCAB

from deltavcs.skeleton.vocabulary import raise_setting, vocabulary_of

_TEXT = {
    "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
    "num_attention_heads": 4,
}  # fmt: skip
_VISION = {**{k: v for k, v in _TEXT.items() if k != "vocab_size"}, "image_size": 16, "patch_size": 8}


def _config(model: transformers.PreTrainedModel) -> bytes:
    model.config.architectures = [type(model).__name__]
    return json.dumps(model.config.to_dict()).encode()


@pytest.mark.parametrize("name", ["llava", "gemma3", "t5", "bart", "bert-mlm", "mamba", "gpt_neox", "bloom"])
def test_what_grows_is_what_transformers_resizes(name):
    model = {**ARCHITECTURES, **OTHER_ARCHITECTURES}[name]()
    found = vocabulary_of(_config(model))
    before = {k: v.shape for k, v in model.state_dict().items()}
    model.resize_token_embeddings(VOCAB + 3, mean_resizing=False)
    grown = {k for k, v in model.state_dict().items() if v.shape != before[k]}
    assert set(found.axes) == grown
    assert all(before[k][axis] == VOCAB for k, axis in found.axes.items())


def test_the_second_axis_may_be_the_one_that_grows():
    assert vocabulary_of(_config(OTHER_ARCHITECTURES["bart"]())).axes["final_logits_bias"] == 1


def test_a_table_with_as_many_rows_is_none_of_it():
    assert set(vocabulary_of(_config(ARCHITECTURES["gpt2"]())).axes) == {
        "transformer.wte.weight", "lm_head.weight",
    }  # fmt: skip
    assert ARCHITECTURES["gpt2"]().transformer.wpe.weight.shape[0] == VOCAB


def test_the_size_stands_in_the_section_of_the_text_model():
    assert vocabulary_of(_config(ARCHITECTURES["llava"]())).settings == (("text_config", "vocab_size"),)
    assert vocabulary_of(_config(ARCHITECTURES["gpt2"]())).settings == (("vocab_size",),)


def test_a_model_that_cannot_resize_is_built_with_more_tokens():
    # CLIP has no input embeddings of its own: its text model has.
    clip = transformers.CLIPConfig(
        text_config={**_TEXT, "max_position_embeddings": VOCAB, "eos_token_id": 2, "bos_token_id": 1},
        vision_config=_VISION,
    )
    with torch.device("meta"):
        model = transformers.CLIPModel(clip)
    found = vocabulary_of(_config(model))
    assert found.axes == {"text_model.embeddings.token_embedding.weight": 0}
    assert found.settings == (("text_config", "vocab_size"),)


def test_a_model_without_tokens_has_no_vocabulary():
    with torch.device("meta"):
        model = transformers.ViTModel(transformers.ViTConfig(**_VISION))
    assert vocabulary_of(_config(model)).axes == {}


def test_a_size_that_the_file_leaves_to_its_class_is_written_down():
    config: dict[str, object] = {"text_config": {"hidden_size": 32}}
    raise_setting(config, ("text_config", "vocab_size"), {"text_config": {"vocab_size": 100}}, 3)
    assert config == {"text_config": {"hidden_size": 32, "vocab_size": 103}}
    raise_setting(config, ("text_config", "vocab_size"), {"text_config": {"vocab_size": 100}}, 1)
    assert config["text_config"] == {"hidden_size": 32, "vocab_size": 104}


def test_a_size_that_stands_at_the_top_as_well_is_raised_there():
    config: dict[str, object] = {"text_config": {"vocab_size": 64}, "vocab_size": 64}
    raise_setting(config, ("text_config", "vocab_size"), {}, 3)
    assert config == {"text_config": {"vocab_size": 67}, "vocab_size": 67}
    other: dict[str, object] = {"text_config": {"vocab_size": 64}, "vocab_size": 100}
    raise_setting(other, ("text_config", "vocab_size"), {}, 3)
    assert other["vocab_size"] == 100
