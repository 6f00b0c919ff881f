"""From the bytes of a config.json to a configuration and a class of transformers, without running any code.

A config.json is hostile input. Its `model_type` and `architectures` are looked up in transformers' own tables
and nowhere else; `auto_map` is ignored, and so are kernels and attention implementations that transformers
would fetch; counts that would make transformers build millions of modules are refused before anything is
built.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError, MissingDependencyError, reason_of

# Numbers that say how many modules there are, under whatever name a family gives them.
_COUNT = re.compile(
    r"layer|block|expert|depth|stage|codebook|stack|attention_types|num_hidden_groups|num_.*_modules"
)
_EXPERTS = re.compile(r"num_.*experts|n_.*experts")
_NO_COUNT = re.compile(
    r"_(?:size|ids?|dim|channels|width|length|input|rank)\Z"
)  # and yet its name speaks of layers
_MAX_COUNT = 2_000
_MAX_EXPERTS = 20_000
# Numbers that transformers makes tables of, some of them in Python: positions and labels.
_TABLE = re.compile(r"position|n_ctx|seq_len|num_labels|num_classes")
_MAX_TABLE = 100_000_000
_MAX_LABELS = 100_000
_MAX_NESTING = 16
_FLOAT = "__float__"
# What a configuration may say of how it is run. Anything else names code of others ("kernels-community/…").
_IMPLEMENTATIONS = ("eager", "sdpa")
_NAMES_CODE = re.compile(r"_?(attn|experts)_implementation(_internal)?")
_NOT_ASKED = frozenset(
    "kernel_config use_kernels fusion_config distributed_config transformers_weights"
    " trust_remote_code".split()
)
_DTYPES = frozenset("float64 float32 float16 bfloat16 float8_e4m3fn float8_e5m2 auto".split())


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
    settings = _harmless(raw)
    try:
        return mapping[model_type].from_dict(settings)
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
    for name, number in _numbers(raw):
        if number > (most := _most(name)):
            raise InvalidInputError(
                f"config.json says {name} = {number}, more than {most}", kind=ErrorKind.BAD_CHECKPOINT
            )
    return raw


def _most(name: str) -> float:
    """The largest number that a setting may have."""
    if _TABLE.search(name):
        return _MAX_LABELS if name.startswith("num_") else _MAX_TABLE
    if _NO_COUNT.search(name) or not _COUNT.search(name):
        return math.inf
    return _MAX_EXPERTS if _EXPERTS.match(name) else _MAX_COUNT


def _harmless(raw: dict[str, Any]) -> dict[str, Any]:
    """The settings without those that make transformers fetch or run what others wrote.

    Raises:
        InvalidInputError: `bad-checkpoint` for a dtype that is none, or a part that is to be fetched.
    """
    _check_backbone(raw)
    kept: dict[str, Any] = {}
    for name, value in raw.items():
        if name in _NOT_ASKED or (_NAMES_CODE.fullmatch(name) and value not in _IMPLEMENTATIONS):
            continue
        if name in ("dtype", "torch_dtype") and isinstance(value, str):
            value = value.removeprefix("torch.")
            if value not in _DTYPES:
                raise InvalidInputError(
                    f"config.json says {name} = {value!r:.80}, which is none", kind=ErrorKind.BAD_CHECKPOINT
                )
            if value == "auto":
                continue
        kept[name] = _harmless_value(value)
    return kept


def _harmless_value(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {_FLOAT}:  # as transformers spells what JSON cannot
        return float(value[_FLOAT]) if value[_FLOAT] in ("Infinity", "-Infinity", "NaN") else value
    if isinstance(value, list):
        return [_harmless_value(one) for one in value]
    return _harmless(value) if isinstance(value, dict) else value


def _check_backbone(section: dict[str, Any]) -> None:
    """Refuse a backbone that is a name: transformers would ask the Hub for its configuration."""
    name = section.get("backbone")
    described = section.get("backbone_config") is not None or section.get("model_type") == "timm_backbone"
    if isinstance(name, str) and not described:
        raise InvalidInputError(
            f"config.json only names its backbone, {name[:80]!r}, which would be fetched from the Hub",
            kind=ErrorKind.BAD_CHECKPOINT,
        )


def _numbers(value: Any, depth: int = 0) -> Iterator[tuple[str, int]]:
    """Every whole number in a configuration, and what it is called."""
    if depth > _MAX_NESTING:
        raise InvalidInputError("config.json is nested too deeply", kind=ErrorKind.BAD_CHECKPOINT)
    if not isinstance(value, dict):
        return
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from _numbers(inner, depth + 1)
        else:
            yield from _listed(name, inner, depth + 1)


def _listed(name: str, value: Any, depth: int) -> Iterator[tuple[str, int]]:
    """The numbers of a setting that is one, or a list of some, of further lists, or of sections."""
    if isinstance(value, dict):
        yield from _numbers(value, depth)
    elif isinstance(value, list):
        if depth > _MAX_NESTING:
            raise InvalidInputError("config.json is nested too deeply", kind=ErrorKind.BAD_CHECKPOINT)
        for one in value:
            yield from _listed(name, one, depth + 1)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield name, value


def _unknown(model_type: object, raw: dict[str, Any]) -> str:
    own = " and needs code of its own, which is never run" if "auto_map" in raw else ""
    if not isinstance(model_type, str):
        return f"config.json names no model_type{own}"
    return f"transformers has no model of the type {model_type!r:.80}{own}"


def model_class(config: Any, *, causal: bool = False) -> Any:
    """The class that a configuration names; failing that, the causal language model of its type.

    Args:
        config: as `read_model_config` gives it.
        causal: only a class that continues a text: the one that is named if it does, else the causal language
            model of the type. A bare GPT-2 becomes a `GPT2LMHeadModel`, whose head is tied.

    Raises:
        InvalidInputError: `bad-checkpoint` if transformers has no model for it, or none that continues a
            text.
    """
    transformers = import_transformers()
    known = _classes_by_type()
    if causal:
        _check_causal(config)
    for name in _architectures(config):
        if name in known.get(config.model_type, ()):
            found = getattr(transformers, name)
            if not causal or found.can_generate():
                return found
    for auto in (transformers.AutoModelForCausalLM, *(() if causal else (transformers.AutoModel,))):
        if type(config) in auto._model_mapping:
            return auto._model_mapping[type(config)]
    raise InvalidInputError(
        _no_language_model(config) if causal else f"transformers has no model for {type(config).__name__}",
        kind=ErrorKind.BAD_CHECKPOINT,
    )


def _check_causal(config: Any) -> None:
    """Refuse what translates, and what fills gaps: a BERT reads the answer that it is asked for."""
    gaps = import_transformers().AutoModelForMaskedLM._model_mapping
    if config.is_encoder_decoder or (type(config) in gaps and getattr(config, "is_decoder", True) is False):
        raise InvalidInputError(_no_language_model(config), kind=ErrorKind.BAD_CHECKPOINT)


def _no_language_model(config: Any) -> str:
    named = next(_architectures(config), None)
    return f"{named or config.model_type} is no causal language model"


def _architectures(config: Any) -> Iterator[str]:
    """The classes that a configuration names, whatever else stands there."""
    named = getattr(config, "architectures", None)
    yield from (name for name in (named if isinstance(named, list | tuple) else ()) if isinstance(name, str))


@cache
def _classes_by_type() -> dict[str, frozenset[str]]:
    """The names of all model classes that transformers' automatic classes know, by model type."""
    auto = import_transformers().models.auto.modeling_auto
    found: dict[str, set[str]] = {}
    for table in (getattr(auto, n) for n in dir(auto) if re.fullmatch(r"MODEL_\w*MAPPING_NAMES", n)):
        for model_type, names in table.items():
            found.setdefault(model_type, set()).update([names] if isinstance(names, str) else names)
    return {model_type: frozenset(names) for model_type, names in found.items()}
