"""Settings in which configurations differ, and ids of tokens that are carried over."""

from __future__ import annotations

import copy

import pytest

from deltavcs.checkpoint.config_differences import carry_token_ids, config_differences, with_dtypes_of


def test_settings_that_differ_are_listed_with_all_three_values() -> None:
    target = {"rope_scaling": None, "text_config": {"rope_theta": 5.0, "x": 1}, "torch_dtype": "bfloat16",
              "transformers_version": "5", "vocab_size": 10}  # fmt: skip
    tuned = {"rope_scaling": {"factor": 8}, "text_config": {"rope_theta": 1.0, "x": 1}, "dtype": "bfloat16",
             "transformers_version": "4", "vocab_size": 12}  # fmt: skip
    found = config_differences("config.json", target, tuned, {"text_config": {"rope_theta": 1.0}}, target)
    assert [(d.key, d.target, d.finetune, d.source, d.written) for d in found] == [
        ("rope_scaling.factor", None, 8, None, "target"),
        ("text_config.rope_theta", 5.0, 1.0, 1.0, "target"),
    ]


X = {"model_type": "x"}
CASES = {
    "changed by the fine-tune": (
        {"eos_token_id": 2}, {"eos_token_id": [2, 9]}, {"eos_token_id": 2}, {"eos_token_id": [2, 9]},
    ),
    "not changed by it": ({"eos_token_id": 7}, {"eos_token_id": 2}, {"eos_token_id": 2}, {"eos_token_id": 7}),
    "with its tokenizer": ({"eos_token_id": 7}, {"eos_token_id": 2}, None, {"eos_token_id": 2}),
    "left at the default of the class": ({"eos_token_id": 7, **X}, X, None, X),
    "of another class": ({"eos_token_id": 7, **X}, {"model_type": "y"}, None, {"eos_token_id": 7, **X}),
    "newly set": ({}, {"pad_token_id": 0}, {}, {"pad_token_id": 0}),
    "nested": (
        {"text_config": {"eos_token_id": 1}}, {"text_config": {"eos_token_id": 3}},
        {"text_config": {"eos_token_id": 1}}, {"text_config": {"eos_token_id": 3}},
    ),
    "of images, where both have it": (
        {"image_token_id": 1}, {"image_token_id": 5, "video_token_id": 6}, None, {"image_token_id": 5},
    ),
    "no ids": ({"rope_theta": 1}, {"rope_theta": 2}, None, {"rope_theta": 1}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_ids_of_tokens(case) -> None:
    section, tuned, source, expected = copy.deepcopy(CASES[case])
    before = copy.deepcopy(section)
    assert carry_token_ids(section, tuned, source) is (expected != before)
    assert section == expected


def test_dtypes_are_those_of_the_tensors() -> None:
    tuned = {"torch_dtype": "float32", "a": 1, "text_config": {"dtype": "float32", "b": 2}}
    target = {"dtype": "bfloat16", "text_config": {"dtype": "bfloat16", "b": 3}}
    assert with_dtypes_of(tuned, target) == {
        "dtype": "bfloat16", "a": 1, "text_config": {"dtype": "bfloat16", "b": 2},
    }  # fmt: skip
