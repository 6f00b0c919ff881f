"""A config.json is looked up in transformers' tables, and nothing in it is run."""

from __future__ import annotations

import json

import pytest
import transformers
from transformers import CONFIG_MAPPING

from deltavcs.errors import InvalidInputError
from deltavcs.skeleton.model_config import model_class, read_model_config


def _json(**settings: object) -> bytes:
    return json.dumps(settings).encode()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"{", "malformed"),
        (b"[" * 100_000, "malformed"),
        (b"[]", "no object"),
        (_json(), "names no model_type"),
        (_json(model_type=["llama"]), "names no model_type"),
        (_json(model_type="odd", auto_map={"AutoConfig": "odd.OddConfig"}), "never run"),
        (_json(model_type="llama", num_hidden_layers=10**9), "num_hidden_layers = 1000000000"),
        (_json(model_type="llava", text_config={"n_layer": 10**9}), "n_layer"),
        (
            _json(model_type="llama", max_position_embeddings=10**12),
            "max_position_embeddings = 1000000000000",
        ),
        (_json(model_type="bert", num_labels=10**10), "num_labels = 10000000000"),
        (_json(model_type="llama", dtype="load"), "dtype = 'load', which is none"),
        (
            _json(model_type="llava", text_config={"torch_dtype": "save"}),
            "torch_dtype = 'save', which is none",
        ),
        (_json(model_type="llama", num_hidden_layers=9_999), "num_hidden_layers = 9999, more than 2000"),
        (_json(model_type="bert", num_labels=10**6), "num_labels = 1000000, more than 100000"),
        (_json(model_type="gpt_neo", attention_types=[[["global"], 10**9]]), "attention_types = 1000000000"),
        (_json(model_type="llava", parts=[{"num_layers": 10**9}]), "num_layers = 1000000000"),
        (_json(model_type="llava", parts=[{"dtype": "load"}]), "dtype = 'load', which is none"),
        (
            _json(model_type="dpt", backbone="evil/evil"),
            "names its backbone, 'evil/evil', .* fetched from the Hub",
        ),
        (
            _json(model_type="llava", vision_config={"model_type": "dpt", "backbone": "resnet50"}),
            "names its backbone, 'resnet50'",
        ),
        (_json(model_type="llama", hidden_size="wide"), "transformers refuses config.json"),
    ],
)
def test_what_is_no_configuration_is_refused(data, says):
    with pytest.raises(InvalidInputError, match=says):
        read_model_config(data)


def test_the_class_is_the_one_that_the_configuration_names():
    config = read_model_config(_json(model_type="llama", architectures=["LlamaForSequenceClassification"]))
    assert model_class(config).__name__ == "LlamaForSequenceClassification"


@pytest.mark.parametrize("name", ["pipeline", "Trainer", "GPT2LMHeadModel", "os", 7])
def test_a_name_that_is_no_class_of_the_type_is_not_looked_up(name):
    config = read_model_config(_json(model_type="llama"))
    config.architectures = [name]
    assert model_class(config).__name__ == "LlamaForCausalLM"


@pytest.mark.parametrize(
    "name",
    [
        "Mamba2Config",
        "GraniteMoeHybridConfig",
        "Gemma3nTextConfig",
        "Gemma4TextConfig",
        "Emu3Config",
        "DogeConfig",
    ],
)
def test_the_sizes_of_a_released_family_are_not_absurd(name):
    """Their defaults: a limit of time steps of infinity, 262144 rows of embeddings a layer, 16384 experts."""
    config = getattr(transformers, name)()
    found = read_model_config(config.to_json_string(use_diff=False).encode())
    assert found.to_dict() == config.to_dict()


def test_every_family_of_transformers_is_read_as_it_writes_itself():
    refused = {}
    for model_type, config_class in CONFIG_MAPPING.items():
        try:
            written = config_class().to_json_string(use_diff=False)
        except Exception:  # has no defaults
            continue
        try:
            read_model_config(written.encode())
        except InvalidInputError as exc:
            refused[model_type] = exc.message
    assert not refused


@pytest.mark.parametrize("named", [5, "LlamaForCausalLM", [["LlamaForCausalLM"]], {"a": 1}])
def test_architectures_that_are_no_list_of_names_name_none(named):
    config = read_model_config(_json(model_type="llama", architectures=named))
    assert model_class(config).__name__ == "LlamaForCausalLM"


@pytest.mark.parametrize("implementation", ["kernels-community/flash-attn3", "flash_attention_2", ["sdpa"]])
def test_an_implementation_that_would_be_fetched_is_not_asked_for(implementation):
    asked = {"attn_implementation": implementation, "_attn_implementation_internal": implementation}
    settings = asked | {"kernel_config": {"a": "b"}, "use_kernels": True}
    config = read_model_config(
        _json(model_type="llava", text_config={"model_type": "llama", **asked}, **settings)
    )
    assert config._attn_implementation is None
    assert config.text_config._attn_implementation is None
    assert not hasattr(config, "kernel_config")


def test_an_implementation_of_torch_is_asked_for():
    assert (
        read_model_config(_json(model_type="llama", attn_implementation="eager"))._attn_implementation
        == "eager"
    )


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"model_type": "gpt2", "architectures": ["GPT2Model"]}, "GPT2LMHeadModel"),
        ({"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]}, "LlamaForCausalLM"),
        ({"model_type": "gpt_neox"}, "GPTNeoXForCausalLM"),
        ({"model_type": "bert", "is_decoder": True, "architectures": ["BertLMHeadModel"]}, "BertLMHeadModel"),
        (
            {"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"]},
            "LlavaForConditionalGeneration",
        ),
    ],
)
def test_the_causal_language_model_of_a_type(settings, name):
    assert model_class(read_model_config(_json(**settings)), causal=True).__name__ == name


@pytest.mark.parametrize("model_type", ["t5", "bart", "bert", "vit"])
def test_what_continues_no_text_has_none(model_type):
    with pytest.raises(InvalidInputError, match="is no causal language model"):
        model_class(read_model_config(_json(model_type=model_type)), causal=True)
