"""Which parameters of a model have one row for each token: found by resizing its vocabulary."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from deltavcs.skeleton.skeleton import Shape, Skeleton, build_skeleton, building

ConfigPath: TypeAlias = tuple[str, ...]
"""Names of the sections of a config.json, and of a setting in the last of them."""

# How many tokens are added to see what grows.
_MORE = 8


@dataclass(frozen=True)
class Vocabulary:
    """The vocabulary of a model.

    Attributes:
        axes: name in memory of every parameter and persistent buffer that grows with the vocabulary → the
            axis along which it does; 0 for an embedding, a head and its bias, 1 for BART's
            `final_logits_bias` [1, V].
        settings: where its size stands in config.json, such as `("text_config", "vocab_size")`.
    """

    axes: Mapping[str, int]
    settings: tuple[ConfigPath, ...]


@lru_cache(maxsize=8)
def vocabulary_of(config_json: bytes) -> Vocabulary:
    """The vocabulary of the model that a config.json describes.

    Tokens are added to its skeleton by transformers' `resize_token_embeddings`; whatever has another shape
    afterwards belongs to the vocabulary. For models that cannot do that, the sizes in the configuration are
    raised instead, and a second skeleton is built.

    Raises:
        InvalidInputError: `bad-checkpoint`, as `build_skeleton`.
    """
    skeleton = build_skeleton(config_json)
    shapes, settings = dict(skeleton.shapes), skeleton.config.to_dict()
    try:
        grown = _resized(skeleton)
    except Exception:  # many types: what has no embedding, or none that transformers can resize
        grown = _with_larger_sizes(config_json, settings) or skeleton
    axes = {name: _axis(shapes[name], now) for name, now in grown.shapes.items() if name in shapes}
    return Vocabulary(
        {name: axis for name, axis in axes.items() if axis is not None},
        tuple(_changed(settings, grown.config.to_dict())),
    )


def _resized(skeleton: Skeleton) -> Skeleton:
    import torch

    rows = skeleton.model.get_input_embeddings().weight.shape[0]
    with building(), torch.device("meta"):
        skeleton.model.resize_token_embeddings(rows + _MORE, mean_resizing=False)
    return Skeleton(skeleton.config, skeleton.model)


def _with_larger_sizes(config_json: bytes, settings: Mapping[str, Any]) -> Skeleton | None:
    """The skeleton with `vocab_size` raised wherever the configuration has one."""
    raw = json.loads(config_json)
    paths = [path for path, value in _numbers(settings) if path[-1] == "vocab_size"]
    for path in paths:
        raise_setting(raw, path, settings, _MORE)
    try:
        return build_skeleton(json.dumps(raw).encode()) if paths else None
    except Exception:
        return None


def raise_setting(config: dict[str, Any], path: ConfigPath, defaults: Mapping[str, Any], by: int) -> None:
    """Raise a number of a config.json in place; one that it leaves to its class is written down.

    Args:
        config: the file's object.
        defaults: the whole configuration as transformers' `to_dict` gives it.
    """
    section, full = config, defaults
    for name in path[:-1]:
        found = section.get(name)
        section[name] = section = found if isinstance(found, dict) else {}
        full = full[name]
    value = section.get(path[-1])
    section[path[-1]] = (value if isinstance(value, int) else full[path[-1]]) + by


def _axis(before: Shape, now: Shape) -> int | None:
    """The one axis that differs, if there is one."""
    if len(before) != len(now):
        return None
    differing = [i for i, (a, b) in enumerate(zip(before, now, strict=True)) if a != b]
    return differing[0] if len(differing) == 1 else None


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[ConfigPath]:
    old = dict(_numbers(before))
    yield from (path for path, value in _numbers(now) if path in old and old[path] != value)


def _numbers(section: Mapping[str, Any], above: ConfigPath = ()) -> Iterator[tuple[ConfigPath, int]]:
    for name, value in section.items():
        if isinstance(value, dict):
            yield from _numbers(value, (*above, name))
        elif isinstance(value, int) and not isinstance(value, bool):
            yield (*above, name), value
