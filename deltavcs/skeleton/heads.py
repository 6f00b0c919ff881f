"""The model that a base becomes when it is trained for another task: its class and its new head."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from deltavcs.errors import InvalidInputError
from deltavcs.skeleton.model_config import import_transformers, model_class, read_model_config
from deltavcs.skeleton.skeleton import Shape, Skeleton, skeleton_of

# PEFT's kinds of tasks → transformers' automatic class, as `peft.auto` pairs them.
_CLASSES = {
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "CAUSAL_LM": "AutoModelForCausalLM",
    "FEATURE_EXTRACTION": "AutoModel",
}
_MOST_LABELS = 1 << 20


def for_task(config_json: bytes, task: str | None, class_name: str | None) -> bytes | None:
    """A config.json that names the class in which a base is trained for a task.

    Args:
        task: a kind of task as PEFT spells it, such as `SEQ_CLS`.
        class_name: the class itself, if it is known.

    Returns:
        None if transformers has no class for the task.

    Raises:
        InvalidInputError: `bad-checkpoint`, as `read_model_config`.
    """
    raw: dict[str, Any] = json.loads(config_json)
    config = read_model_config(config_json)
    if class_name is not None:
        config.architectures = [class_name]
        if model_class(config).__name__ != class_name:
            return None
    elif task in _CLASSES:
        automatic = getattr(import_transformers(), _CLASSES[task])
        if type(config) not in automatic._model_mapping:
            return None
        found = automatic._model_mapping[type(config)]
        class_name = (found[0] if isinstance(found, tuple | list) else found).__name__
    else:
        return None
    return json.dumps({**raw, "architectures": [class_name]}, indent=2, ensure_ascii=False).encode() + b"\n"


def with_labels(config_json: bytes, heads: Mapping[str, Shape]) -> tuple[bytes, Skeleton] | None:
    """The config.json with as many labels as some new tensors have, and its model.

    Args:
        heads: name in memory → shape of the tensors that the base does not have.

    Returns:
        None if the model has not all of them in these shapes, for any number of labels among their rows.
    """
    raw = json.loads(config_json)
    counts: list[int | None] = [None, *sorted({s[0] for s in heads.values() if s and s[0] <= _MOST_LABELS})]
    for count in counts:
        tried = raw if count is None else {**raw, **_labels(count, raw)}
        data = json.dumps(tried, indent=2, ensure_ascii=False).encode() + b"\n"
        try:
            skeleton = skeleton_of(data)
        except InvalidInputError:
            continue
        if all(skeleton.shapes.get(name) == shape for name, shape in heads.items()):
            return data, skeleton
    return None


def _labels(count: int, raw: Mapping[str, Any]) -> dict[str, Any]:
    known = raw.get("id2label")
    if isinstance(known, dict) and len(known) == count:
        return {}
    names = [f"LABEL_{i}" for i in range(count)]
    return {
        "id2label": {str(i): n for i, n in enumerate(names)},
        "label2id": {n: i for i, n in enumerate(names)},
    }


def labels_of(config_json: bytes, names: Sequence[str] = ("id2label", "label2id")) -> dict[str, Any]:
    """The names of the labels in a config.json, if it has any."""
    try:
        raw = json.loads(config_json)
    except (ValueError, RecursionError):
        return {}
    return {n: raw[n] for n in names if isinstance(raw, dict) and isinstance(raw.get(n), dict)}
