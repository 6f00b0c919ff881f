"""What an adapter's configuration says."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import peft
import pytest
from peft.utils.other import get_pattern_key

from deltavcs.adapters.adapter_config import AdapterConfig, parse_adapter_config
from deltavcs.errors import ErrorKind, InvalidInputError

_LORA = {"peft_type": "LORA", "r": 2, "lora_alpha": 8}


def parsed(**settings: Any) -> AdapterConfig:
    return parse_adapter_config(json.dumps({**_LORA, **settings}).encode())


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
    assert parsed(rank_pattern={pattern: 8}).scale(module) == scale


@pytest.mark.parametrize(
    "pattern",
    ["proj", "o_proj", r"^model\.layers\.1\.v_proj", "^layers.1.v_proj", r"layers\.1\..*", "v_proj|"],
)
def test_patterns_match_as_in_peft(pattern):
    for module in ("model.layers.1.v_proj", "layers.1.v_proj", "model.layers.0.o_proj", "v_proj", "xv_proj"):
        matches = get_pattern_key([pattern], module) == pattern
        assert parsed(rank_pattern={pattern: 8}).rank_of(module) == (8 if matches else 2)


def test_the_settings_that_peft_writes_by_itself_are_understood():
    raw = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["q"]).to_dict()
    raw |= {"target_modules": ["q"], "peft_type": "LORA"}
    assert parse_adapter_config(json.dumps(raw, default=str).encode()).why_not_folded is None


def test_every_setting_of_peft_is_understood_or_named():
    # A field that a later PEFT adds is named, not passed over, if it is in effect.
    known = {f.name for f in dataclasses.fields(peft.LoraConfig)}
    values: dict[str, Any] = {**{name: {"x": 1} for name in known}, "trainable_token_indices": [1], **_LORA}
    named = {name for name in known if parsed(**{name: values[name]}).beyond}
    assert named == {
        "alora_invocation_tokens", "arrow_config", "kasa_config", "layer_replication", "megatron_config",
        "monteclora_config", "use_bdlora", "use_qalora",
    }  # fmt: skip
    assert parsed(a_field_of_tomorrow=True).why_not_folded == (
        "it was trained with a_field_of_tomorrow, which folding does not know"
    )
    assert parsed(a_field_of_tomorrow=False).why_not_folded is None


@pytest.mark.parametrize("how", ["pissa", "pissa_niter_4", "olora", "corda", "loftq", "lora_ga", "tomorrow"])
def test_initialisations_that_change_the_base(how):
    assert f"it was initialised by {how}, which changes the base" in (
        parsed(init_lora_weights=how).why_not_folded or ""
    )


@pytest.mark.parametrize("how", [True, False, None, "gaussian", "eva", "orthogonal", "mica"])
def test_initialisations_that_leave_the_base(how):
    assert parsed(init_lora_weights=how).why_not_folded is None


@pytest.mark.parametrize("kind", [k.value for k in peft.PeftType] + ["TYPE_OF_TOMORROW"])
def test_every_type_can_be_read(kind):
    config = parse_adapter_config(json.dumps({"peft_type": kind, "r": 1, "lora_alpha": 1}).encode())
    assert config.peft_type == kind
    folded = kind in ("LORA", "TRAINABLE_TOKENS")
    assert config.why_not_folded == (
        None if folded else f"it is of the type {kind}, and only LoRA can be folded"
    )


def test_the_type_in_words():
    assert parsed().kind == "LORA"
    assert (
        parsed(use_dora=True, use_rslora=True, init_lora_weights="eva").kind
        == "LORA (DoRA, rank-stabilised, eva)"
    )


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"peft_type": "LORA"}', b'{"r": 0, "lora_alpha": 1}', b'{"r": "x"}']
)
def test_what_is_no_configuration(data):
    with pytest.raises(InvalidInputError) as caught:
        parse_adapter_config(data)
    assert caught.value.kind is ErrorKind.BAD_CHECKPOINT
