"""The model that base and adapter make together, where it is not the base's: a new head, an embedding untied."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from deltavcs.adapters.adapter_config import AdapterConfig
from deltavcs.adapters.adapter_match import AdapterMatch
from deltavcs.adapters.base_weights import BaseWeights
from deltavcs.checkpoint.layout import CONFIG, MAX_JSON_BYTES
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import Manifest
from deltavcs.objects.store import ObjectStore
from deltavcs.skeleton.heads import for_task, labels_of, with_labels
from deltavcs.skeleton.skeleton import Shape
from deltavcs.skeleton.tying import how_to_untie, left_untied, untied
from deltavcs.skeleton.weight_names import check_fit

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class NewModel:
    """What a folded checkpoint is.

    Attributes:
        config: its config.json; None for the base's as it is.
        dropped: tensors of the base that it has no place for, such as the head of the language model.
        notes: sentences for the user.
    """

    config: bytes | None = None
    dropped: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def new_model(
    config: AdapterConfig, found: AdapterMatch, base: BaseWeights, objects: ObjectStore, adapter: Manifest
) -> NewModel:
    """The model of a base with an adapter folded in. Reduces `found` to what is to be written.

    Raises:
        InvalidInputError: `incompatible` if transformers would leave some of its weights random, or would tie
            again what the adapter trained apart.
    """
    _keep_tied(found, base)
    heads = {name: entry.shape for name, entry in found.new.items() if name not in found.untied}
    if heads:
        return _with_heads(config, heads, found, base, _labels(objects, adapter))
    if found.untied:
        return _untied(found, base)
    return NewModel()


def _keep_tied(found: AdapterMatch, base: BaseWeights) -> None:
    """Weights that are tied and trained alike stay tied; where one of two changed, both are told apart."""
    tied = base.skeleton.tied if base.skeleton is not None else {}
    for name, source in tied.items():
        place = base.find(source)
        if place is None or len(place.pieces) != 1:
            continue
        key = place.pieces[0].key
        _settle(found, base, name, key)


def _settle(found: AdapterMatch, base: BaseWeights, name: str, key: str) -> None:
    """Decide whether the parameter `name`, which is tied to the tensor `key`, is written of its own."""
    if name in base.entries:
        return
    ours, theirs = found.new.get(name), found.whole.get(key)
    old = base.entries[key]
    changed = bool(found.factors.get(name) or found.factors.get(key))
    same = (ours or old).blob == (theirs or old).blob
    resized = theirs is not None and ours is None and theirs.shape != old.shape
    if not changed and (same or resized):
        found.new.pop(name, None)
        found.untied.pop(name, None)
    elif changed or ours is not None or theirs is not None:
        found.untied[name] = key


def _untied(found: AdapterMatch, base: BaseWeights) -> NewModel:
    names = tuple(found.untied)
    assert base.config is not None
    paths = how_to_untie(base.config, names)
    if not paths or left_untied(base.config, names) - found.untied.keys():
        raise InvalidInputError(
            f"the adapter cannot be folded: it changes {names[0]}, which the base has tied to"
            f" {found.untied[names[0]]}, and config.json cannot say of this model that only one of them changed",
            kind=ErrorKind.INCOMPATIBLE,
        )
    told = f"{', '.join(names)} is no longer tied to {', '.join(dict.fromkeys(found.untied.values()))}"
    return NewModel(_pretty(untied(base.config, paths)), notes=(told,))


def _with_heads(
    config: AdapterConfig,
    heads: Mapping[str, Shape],
    found: AdapterMatch,
    base: BaseWeights,
    labels: dict[str, object],
) -> NewModel:
    shown = ", ".join(list(heads)[:_SHOWN])
    asked = for_task(base.config, config.task_type, config.model_class) if base.config is not None else None
    if asked is None:
        task = config.task_type or config.model_class
        raise InvalidInputError(
            f"the adapter holds {shown}, which the base does not have"
            + (f", and its model is not known for {task}" if task else ", and it does not name its task"),
            kind=ErrorKind.INCOMPATIBLE,
        )
    asked = json.dumps({**json.loads(asked), **labels}).encode()
    made = with_labels(asked, heads)
    if made is None:
        raise InvalidInputError(
            f"the adapter holds {shown}, which the model for {config.task_type or config.model_class} has not, or not in"
            f" the shape {list(next(iter(heads.values())))}",
            kind=ErrorKind.INCOMPATIBLE,
        )
    data, skeleton = made
    shapes = {k: e.shape for k, e in {**base.entries, **found.whole, **found.new}.items()}
    fit = check_fit(skeleton, shapes)
    if fit.missing:
        raise InvalidInputError(
            f"the adapter cannot be folded: neither it nor the base holds {', '.join(fit.missing[:_SHOWN])}, which"
            " would be random",
            kind=ErrorKind.INCOMPATIBLE,
        )
    dropped = frozenset(fit.unexpected) & base.entries.keys()
    name = json.loads(data)["architectures"][0]
    notes = [f"the model is a {name} now, with {shown} of the adapter"]
    if dropped:
        notes.append(
            f"it has no place for {', '.join(sorted(dropped)[:_SHOWN])} of the base, which is left out"
        )
    return NewModel(data, dropped, tuple(notes))


def _labels(objects: ObjectStore, adapter: Manifest) -> dict[str, object]:
    """The names of the labels, where a trainer saved the config.json of the whole model beside the adapter."""
    file = next((f for f in adapter.files if f.path == CONFIG and f.tensors is None), None)
    if file is None or file.size > MAX_JSON_BYTES:
        return {}
    return labels_of(objects.blobs.read(file.blob, max_bytes=MAX_JSON_BYTES))


def _pretty(config_json: bytes) -> bytes:
    return json.dumps(json.loads(config_json), indent=2, ensure_ascii=False).encode() + b"\n"
