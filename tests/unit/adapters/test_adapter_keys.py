"""Names of the tensors of adapters."""

from __future__ import annotations

import pytest

from deltavcs.adapters.adapter_keys import AdapterKey, Part, parse_key, whole_names


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("base_model.model.q.lora_A.weight", AdapterKey("q", Part.A)),
        ("base_model.model.q.lora_B.default.weight", AdapterKey("q", Part.B)),
        ("base_model.model.q.lora_B.bias", AdapterKey("q", Part.BIAS)),
        ("base_model.model.e.lora_embedding_A", AdapterKey("e", Part.A, True)),
        ("base_model.model.e.lora_embedding_B.fr", AdapterKey("e", Part.B, True)),
        ("base_model.model.q.lora_magnitude_vector", AdapterKey("q", Part.MAGNITUDE)),
        ("base_model.model.q.lora_magnitude_vector.default.weight", AdapterKey("q", Part.MAGNITUDE)),
        ("base_model.model.e.token_adapter.trainable_tokens_delta", AdapterKey("e", Part.TOKENS)),
        ("base_model.model.e.trainable_tokens_delta.default", AdapterKey("e", Part.TOKENS)),
        ("base_model.model.x.base_layer.lora_A.weight", AdapterKey("x.base_layer", Part.A)),
        ("base_model.model.x.base_layer.weight", AdapterKey("x.base_layer.weight", Part.WHOLE)),
        ("base_model.model.x.original_module.weight", AdapterKey("x.original_module.weight", Part.COPY)),
        ("base_model.model.q.lora_E", AdapterKey("q.lora_E", Part.OTHER)),
        ("base_model.model.q.lora_diag.default", AdapterKey("q.lora_diag.default", Part.OTHER)),
        ("module._orig_mod.base_model.model.a._orig_mod.q.lora_A.weight", AdapterKey("a.q", Part.A)),
    ],
)
def test_what_a_name_says(key, wanted):
    assert parse_key(key) == wanted


def test_parameters_of_one_module_lie_around_each_other():
    key = AdapterKey("mlp.experts.base_layer.base_layer", Part.A)
    assert (key.depth, key.plain_module) == (2, "mlp.experts")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("score.weight", ["score.weight"]),
        ("score.modules_to_save.weight", ["score.weight"]),
        ("head.base_layer.weight", ["head.weight"]),
        ("score.modules_to_save.default.weight", ["score.default.weight", "score.weight"]),
        ("c.modules_to_save.dense.weight", ["c.dense.weight", "c.weight"]),
    ],
)
def test_how_a_whole_tensor_may_be_called(name, wanted):
    assert whole_names(name) == wanted
