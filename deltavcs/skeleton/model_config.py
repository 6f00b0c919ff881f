"""From the bytes of a config.json to a configuration and a class of transformers, without running any code.

A config.json is hostile input. Its `model_type` and `architectures` are looked up in transformers' own tables
and nowhere else; `auto_map` is ignored; counts that would make transformers build millions of modules are
refused before anything is built.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError, MissingDependencyError, reason_of

# Numbers that say how many modules there are, under whatever name a family gives them.
_COUNT = re.compile(r"layer|block|expert|depth|stage|codebook|stack|num_hidden_groups|num_.*_modules")
_MAX_COUNT = 10_000
_MAX_NESTING = 16


def import_transformers() -> Any:
    """The transformers module. Raises MissingDependencyError."""
    try:
        import transformers
    except ImportError as exc:
        raise MissingDependencyError(
            "this needs transformers",
            kind=ErrorKind.MISSING_PACKAGE,
            facts={"package": "transformers"},
        ) from exc
    return transformers


def read_model_config(data: bytes) -> Any:
    """The transformers configuration of a config.json.

    Returns:
        A `transformers.PreTrainedConfig` of the class that transformers has for its `model_type`.

    Raises:
        InvalidInputError: `bad-checkpoint` if it is no JSON object, if transformers has no such model (one
            with code of its own is never run), or if it asks for absurdly many modules.
        MissingDependencyError: transformers is not installed.
    """
    raw = _parse(data)
    model_type = raw.get("model_type")
    transformers = import_transformers()
    mapping = transformers.models.auto.configuration_auto.CONFIG_MAPPING
    if not isinstance(model_type, str) or model_type not in mapping:
        raise InvalidInputError(
            _unknown(model_type, raw), kind=ErrorKind.BAD_CHECKPOINT, advice=Advice.TENSORS_ALONE
        )
    try:
        return mapping[model_type].from_dict(raw)
    except Exception as exc:  # many types, all of them about the file
        raise InvalidInputError(
            f"transformers refuses config.json: {reason_of(exc)}", kind=ErrorKind.BAD_CHECKPOINT
        ) from exc


def _parse(data: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise InvalidInputError("config.json is malformed", kind=ErrorKind.BAD_CHECKPOINT) from exc
    if not isinstance(raw, dict):
        raise InvalidInputError("config.json is no object", kind=ErrorKind.BAD_CHECKPOINT)
    for name, count in _counts(raw):
        if count > _MAX_COUNT:
            raise InvalidInputError(
                f"config.json says {name} = {count}, more than {_MAX_COUNT}", kind=ErrorKind.BAD_CHECKPOINT
            )
    return raw


def _counts(value: Any, depth: int = 0) -> Iterator[tuple[str, int]]:
    """Every number in a configuration whose name says that it counts modules."""
    if depth > _MAX_NESTING:
        raise InvalidInputError("config.json is nested too deeply", kind=ErrorKind.BAD_CHECKPOINT)
    if not isinstance(value, dict):
        return
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from _counts(inner, depth + 1)
        elif _COUNT.search(name):
            numbers = inner if isinstance(inner, list) else [inner]
            yield from ((name, n) for n in numbers if isinstance(n, int) and not isinstance(n, bool))


def _unknown(model_type: object, raw: dict[str, Any]) -> str:
    own = " and needs code of its own, which is never run" if "auto_map" in raw else ""
    if not isinstance(model_type, str):
        return f"config.json names no model_type{own}"
    return f"transformers has no model of the type {model_type!r:.80}{own}"


def model_class(config: Any) -> Any:
    """The class that a configuration names; failing that, the causal language model of its type.

    Args:
        config: as `read_model_config` gives it.

    Raises:
        InvalidInputError: `bad-checkpoint` if transformers has no model for it.
    """
    transformers = import_transformers()
    known = _classes_by_type()
    for name in getattr(config, "architectures", None) or ():
        if isinstance(name, str) and name in known.get(config.model_type, ()):
            return getattr(transformers, name)
    for auto in (transformers.AutoModelForCausalLM, transformers.AutoModel):
        if type(config) in auto._model_mapping:
            return auto._model_mapping[type(config)]
    raise InvalidInputError(
        f"transformers has no model for {type(config).__name__}", kind=ErrorKind.BAD_CHECKPOINT
    )


@cache
def _classes_by_type() -> dict[str, frozenset[str]]:
    """The names of all model classes that transformers' automatic classes know, by model type."""
    auto = import_transformers().models.auto.modeling_auto
    found: dict[str, set[str]] = {}
    for table in (getattr(auto, n) for n in dir(auto) if re.fullmatch(r"MODEL_\w*MAPPING_NAMES", n)):
        for model_type, names in table.items():
            found.setdefault(model_type, set()).update([names] if isinstance(names, str) else names)
    return {model_type: frozenset(names) for model_type, names in found.items()}
