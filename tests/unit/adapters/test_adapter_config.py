"""What an adapter's configuration says."""

from __future__ import annotations

import json

import pytest

from deltavcs.adapters.adapter_config import parse_adapter_config

_LORA = {"peft_type": "LORA", "r": 2, "lora_alpha": 8}


@pytest.mark.parametrize(
    ("pattern", "module", "scale"),
    [
        ("q_proj|v_proj", "model.layers.0.self_attn.v_proj", 1.0),
        ("q_proj|v_proj", "model.layers.0.self_attn.q_proj", 1.0),
        ("q_proj|v_proj", "model.layers.0.self_attn.k_proj", 4.0),
        ("^model.layers.0.*", "model.layers.0.self_attn.k_proj", 1.0),
    ],
)
def test_an_alternation_in_a_rank_pattern_is_one_pattern(pattern, module, scale):
    # As PEFT reads it: (.*\.)?(q_proj|v_proj)$; without brackets only the first had a prefix.
    config = parse_adapter_config(json.dumps({**_LORA, "rank_pattern": {pattern: 8}}).encode())
    assert config.scale(module) == scale
