"""A config.json is looked up in transformers' tables, and nothing in it is run."""

from __future__ import annotations

import json

import pytest

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
