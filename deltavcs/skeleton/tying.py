"""How a config.json says that an embedding and a head are no longer one parameter."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from deltavcs.errors import InvalidInputError
from deltavcs.skeleton.skeleton import Skeleton, skeleton_of
from deltavcs.skeleton.vocabulary import ConfigPath

_SETTING = "tie_word_embeddings"


def how_to_untie(config_json: bytes, names: Collection[str]) -> tuple[ConfigPath, ...]:
    """Which settings to make false so that a model ties none of some parameters.

    Args:
        config_json: a config.json.
        names: of parameters in memory, such as `lm_head.weight`.

    Returns:
        Paths of `tie_word_embeddings`; none if it ties none of them already, or if that cannot be said without
        changing what else the model computes (T5 scales its output by it). transformers then goes by what a
        checkpoint stores: two tensors that differ are not tied.

    Raises:
        InvalidInputError: `bad-checkpoint`, as `build_skeleton`.
    """
    skeleton = skeleton_of(config_json)
    if not any(name in skeleton.tied for name in names):
        return ()
    before = skeleton.config.to_dict()
    paths = sorted(_settings(before), key=len)
    for n in range(1, len(paths) + 1):
        try:
            after = skeleton_of(untied(config_json, paths[:n]))
        except InvalidInputError:
            continue
        others = _without(before) != _without(after.config.to_dict())
        if not others and not any(name in after.tied for name in names):
            return tuple(paths[:n])
    return ()


def left_untied(config_json: bytes, names: Collection[str]) -> frozenset[str]:
    """Parameters in memory that are no longer tied once `names` are not: each needs a tensor of its own."""
    before = skeleton_of(config_json)
    after: Skeleton = skeleton_of(untied(config_json, how_to_untie(config_json, names)))
    return frozenset(before.tied.keys() - after.tied.keys())


def untied(config_json: bytes, paths: Collection[ConfigPath]) -> bytes:
    """The config.json with these settings false."""
    raw = json.loads(config_json)
    for path in paths:
        set_false(raw, path)
    return json.dumps(raw).encode()


def set_false(config: dict[str, Any], path: ConfigPath) -> None:
    """Make a setting false in place; sections that the file leaves to their classes are written down."""
    section = config
    for name in path[:-1]:
        found = section.get(name)
        section[name] = section = found if isinstance(found, dict) else {}
    section[path[-1]] = False


def _settings(config: Mapping[str, Any], above: ConfigPath = ()) -> Iterator[ConfigPath]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _settings(value, (*above, name))
        elif name == _SETTING and value:
            yield (*above, name)


def _without(config: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _without(v) if isinstance(v, dict) else v for k, v in config.items() if k != _SETTING}
