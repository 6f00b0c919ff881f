"""The model of a base that was trained for another task."""

from __future__ import annotations

import json

import pytest

from deltavcs.skeleton.heads import for_task, labels_of, with_labels

_LLAMA = json.dumps(
    {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 16,
    }
).encode()  # fmt: skip


@pytest.mark.parametrize(
    ("task", "class_name", "wanted"),
    [
        ("SEQ_CLS", None, "LlamaForSequenceClassification"),
        ("TOKEN_CLS", None, "LlamaForTokenClassification"),
        (None, "LlamaForSequenceClassification", "LlamaForSequenceClassification"),
        ("SEQ_2_SEQ_LM", None, None),
        (None, "os", None),
        (None, None, None),
    ],
)
def test_the_class_of_a_task(task, class_name, wanted):
    found = for_task(_LLAMA, task, class_name)
    assert (json.loads(found)["architectures"] if found else None) == ([wanted] if wanted else None)


def test_as_many_labels_as_the_head_has():
    asked = for_task(_LLAMA, "SEQ_CLS", None)
    assert asked is not None
    found = with_labels(asked, {"score.weight": (5, 8)})
    assert found is not None
    data, skeleton = found
    assert skeleton.shapes["score.weight"] == (5, 8)
    assert labels_of(data)["label2id"] == {f"LABEL_{i}": i for i in range(5)}
    assert with_labels(asked, {"score.weight": (5, 9)}) is None
    assert with_labels(asked, {"other.weight": (5, 8)}) is None


def test_labels_that_fit_keep_their_names():
    asked = json.loads(for_task(_LLAMA, "SEQ_CLS", None) or b"")
    names = {"id2label": {"0": "no", "1": "yes", "2": "maybe"}, "label2id": {"no": 0, "yes": 1, "maybe": 2}}
    found = with_labels(json.dumps({**asked, **names}).encode(), {"score.weight": (3, 8)})
    assert found is not None
    assert labels_of(found[0]) == names
