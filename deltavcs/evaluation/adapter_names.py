"""Names of an adapter's tensors, as PEFT expects them of the model that it is attached to."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from deltavcs.adapters.adapter_keys import Part, parse_key, plain_name
from deltavcs.errors import InvalidInputError
from deltavcs.skeleton.skeleton import skeleton_of
from deltavcs.skeleton.weight_names import match_names

_PEFT = "base_model.model."
# The name of an adapter, which PEFT leaves out of its files and other savers keep.
_NAMED = re.compile(
    r"(?P<part>\.lora_(?:embedding_)?[AB]|\.lora_magnitude_vector|\.modules_to_save|\.trainable_tokens_delta)"
    r"\.(?!weight\Z|bias\Z)[^.]+(?P<leaf>\.(?:weight|bias))?\Z"
)


def spell_as_peft(state: Mapping[str, Any], expected: Collection[str], base: Any) -> dict[str, Any]:
    """An adapter under the names that a model expects.

    PEFT leaves a factor at random if its name is not the model's, as of a model that was wrapped by
    `torch.compile` or FSDP when it was saved, or that transformers 4 named otherwise. A name that is expected
    stays; another one becomes the only one that says the same, or stays as well.

    Args:
        state: name in the file → anything.
        expected: names that PEFT would save.
        base: the model below the adapter.
    """
    odd = [key for key in state if key not in expected]
    free = [key for key in expected if key not in state]
    if not odd or not free:
        return dict(state)
    memory = _in_memory(odd, base)
    found: dict[str, str] = {}
    for key in odd:
        fitting = [name for name in free if _says(name, memory[key])] or _only_suffix(memory[key], free)
        if len(fitting) == 1:
            found[key] = fitting[0]
    taken = list(found.values())
    return {found[k] if k in found and taken.count(found[k]) == 1 else k: v for k, v in state.items()}


def _plain(key: str) -> str:
    """The name without wrappers, and without the name of the adapter."""
    return _NAMED.sub(_without_name, plain_name(key))


def _without_name(found: re.Match[str]) -> str:
    part, leaf = found["part"], found["leaf"] or ""
    if part == ".lora_magnitude_vector":  # a parameter in PEFT's files
        return part
    return leaf if part == ".modules_to_save" else part + leaf


def _in_memory(keys: Iterable[str], base: Any) -> dict[str, str]:
    """Key → its plain name, with the module called as it is in memory."""
    modules = {key: parse_key(key) for key in keys}
    of_layers = {k: m.module for k, m in modules.items() if m.part not in (Part.WHOLE, Part.COPY, Part.OTHER)}
    told = _names_in_memory({f"{m}.weight" for m in of_layers.values()}, base)
    out = {}
    for key in modules:
        plain, module = _plain(key), of_layers.get(key, "")
        memory = told.get(f"{module}.weight", "").removesuffix(".weight")
        out[key] = memory + plain.removeprefix(module) if module and memory else plain
    return out


def _names_in_memory(names: Collection[str], base: Any) -> dict[str, str]:
    settings = json.loads(base.config.to_json_string(use_diff=False))
    try:
        skeleton = skeleton_of(json.dumps(settings | {"architectures": [type(base).__name__]}).encode())
    except InvalidInputError:
        return {}
    sources = match_names(skeleton, names).sources
    return {n: memory for memory, s in sources.items() if s.conversion is None for n in s.names}


def _says(expected: str, name: str) -> bool:
    return expected.removeprefix(_PEFT) == name


def _only_suffix(name: str, free: Collection[str]) -> list[str]:
    """Expected names that end in a name, or in which it ends."""
    return [e for e in free if _ends(e.removeprefix(_PEFT), name) or _ends(name, e.removeprefix(_PEFT))]


def _ends(name: str, suffix: str) -> bool:
    return name.endswith("." + suffix)
