"""Which files of a model on the Hub are fetched."""

from __future__ import annotations

import pytest

from deltavcs.advice import Advice
from deltavcs.checkpoint.intake import Cause, Intake, LeftOut
from deltavcs.checkpoint.listing import choose_listed
from deltavcs.errors import ErrorKind, InvalidInputError

MODEL = ["config.json", "model.safetensors", "tokenizer.json"]


def choose(*names, intake=None, allow_pickle=False):
    return choose_listed(dict.fromkeys(names, 7), intake or Intake(), allow_pickle=allow_pickle)


def test_other_formats_and_pickles_are_left_out_where_there_are_safetensors():
    others = [
        "m.gguf",
        "onnx/model.onnx",
        "original/consolidated.00.pth",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
    ]
    made = choose(*MODEL, *others)
    assert sorted(made.wanted) == MODEL
    assert [(x.path, x.size) for x in made.left_out] == [(name, 7) for name in others]
    taken = choose(*MODEL, *others, intake=Intake(include=("*.gguf", "original/")))
    assert sorted(taken.wanted) == sorted([*MODEL, "m.gguf", "original/consolidated.00.pth"])


def test_rules_hold_for_folders():
    made = choose(
        *MODEL,
        "checkpoint-1/a.safetensors",
        "checkpoint-1/b",
        "optimizer.pt",
        "x.md",
        intake=Intake(exclude=("*.md",)),
    )
    assert sorted(made.wanted) == MODEL
    assert made.left_out == (
        LeftOut("checkpoint-1/", 14, 2, Cause.DEFAULT, holds_weights=True),
        LeftOut("optimizer.pt", 7, 1, Cause.DEFAULT),
        LeftOut("x.md", 7, 1, Cause.EXCLUDED),
    )
    assert choose(*MODEL, intake=Intake(exclude=("*.mdx",))).unmatched == ("*.mdx",)


def test_a_model_of_pickles():
    names = ["config.json", "pytorch_model.bin", "tf_model.h5"]
    with pytest.raises(InvalidInputError) as caught:
        choose(*names)
    assert caught.value.kind is ErrorKind.PICKLE_REFUSED and caught.value.advice is Advice.ALLOW_PICKLES
    assert choose(*names, allow_pickle=True).wanted == ("config.json", "pytorch_model.bin")


def test_a_model_in_another_format_alone_is_fetched_whole():
    names = ("README.md", "m-Q4.gguf", "m-Q8.gguf")
    assert choose(*names).wanted == names
