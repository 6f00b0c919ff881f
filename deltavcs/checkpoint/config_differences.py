"""Where the configurations of three checkpoints differ, and which ids of tokens a made checkpoint gets.

`config.json` of m_t, m'_s and m_s as JSON objects; nested sections such as `text_config` are compared key by
key, with dots between (`text_config.rope_theta`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

JsonObject: TypeAlias = dict[str, Any]

# What the library that saved a model notes of itself, and no forward pass reads.
_NOTES = frozenset("_name_or_path _commit_hash transformers_version _diffusers_version use_cache".split())
# Follows the tensors, whatever it was.
_ROWS = "vocab_size"
_SAME_KEY = {"torch_dtype": "dtype"}
DTYPE_KEYS = ("dtype", "torch_dtype")
# Absent means the default of the class, so these move as a set.
_ENDS = ("bos_token_id", "eos_token_id", "pad_token_id")
_OF_TOKENS = ("_token_id", "_token_ids", "_token_index", "_token_idx")
_MAX_DEPTH = 16
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class ConfigDifference:
    """A setting that the target and the fine-tune do not share; JSON values, None where it is not set.

    Attributes:
        path: the file, such as `config.json` or `unet/config.json`.
        key: with dots between sections.
        target, finetune, source: of m_t, m'_s and m_s.
        written: whose value the result has: `target` or `finetune`.
    """

    path: str
    key: str
    target: Any
    finetune: Any
    source: Any
    written: str


def config_differences(
    path: str, target: JsonObject, finetune: JsonObject, source: JsonObject, written: JsonObject
) -> list[ConfigDifference]:
    """The settings in which target and fine-tune differ, sorted by key.

    Args:
        written: the result's configuration.
    """
    m_t, tuned, m_s, made = (_flat(x) for x in (target, finetune, source, written))
    out = []
    for key in sorted(m_t.keys() | tuned.keys()):
        ours, theirs = m_t.get(key), tuned.get(key)
        if ours != theirs and key.rpartition(".")[2] not in {*_NOTES, _ROWS}:
            whose = "finetune" if made.get(key) == theirs else "target"
            out.append(ConfigDifference(path, key, ours, theirs, m_s.get(key), whose))
    return out


def _flat(section: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in section.items():
        key = prefix + _SAME_KEY.get(name, name)
        if isinstance(value, dict) and value and depth < _MAX_DEPTH:
            out.update(_flat(value, key + ".", depth + 1))
        else:
            out[key] = value
    return out


def carry_token_ids(
    section: JsonObject, finetune: JsonObject, source: JsonObject | None, *, depth: int = 0
) -> bool:
    """Put a fine-tune's ids of tokens into a configuration, in place, in nested sections as well.

    Args:
        section: of the target.
        source: of m_s: only ids that the fine-tune changed against it are carried. None: all, since the
            tokenizer they are ids of is the fine-tune's.

    Returns:
        False if nothing was changed.
    """
    changed = False
    same_type = section.get("model_type") == finetune.get("model_type")
    for key in {k for k in (*section, *finetune, *_ENDS) if k.endswith(_OF_TOKENS)}:
        new, old = finetune.get(key, _ABSENT), section.get(key, _ABSENT)
        if new == old or (source is not None and new == source.get(key, _ABSENT)):
            continue
        if new is _ABSENT:
            if key in _ENDS and same_type:
                del section[key]
                changed = True
        elif key in _ENDS or old is not _ABSENT:
            section[key] = new
            changed = True
    if depth < _MAX_DEPTH:
        for key, value in section.items():
            tuned, before = finetune.get(key), (source or {}).get(key)
            if isinstance(value, dict) and isinstance(tuned, dict):
                below = None if source is None else before if isinstance(before, dict) else {}
                changed |= carry_token_ids(value, tuned, below, depth=depth + 1)
    return changed


def with_dtypes_of(finetune: JsonObject, target: JsonObject) -> JsonObject:
    """The fine-tune's configuration with the target's dtypes, which the tensors of a transfer have."""
    out = dict(finetune)
    for key in DTYPE_KEYS:
        out.pop(key, None)
    out |= {key: target[key] for key in DTYPE_KEYS if key in target}
    for key, value in finetune.items():
        below = target.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            out[key] = with_dtypes_of(value, below)
    return out
