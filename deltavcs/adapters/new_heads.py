"""The model that base and adapter make, where it is not the base's: a new head, an embedding untied."""

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
from deltavcs.skeleton.skeleton import Shape, skeleton_of
from deltavcs.skeleton.tying import how_to_untie, left_untied, untied
from deltavcs.skeleton.weight_names import check_fit

_SHOWN = 3
# Tasks whose heads no base has.
_OWN_HEADS = ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS")


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
    heads |= _resized_heads(found, base)
    if heads:
        return _with_heads(config, heads, found, base, _labels(objects, adapter))
    if found.untied:
        return _untied(found, base)
    return _as_trained(config, found, base)


def _resized_heads(found: AdapterMatch, base: BaseWeights) -> dict[str, Shape]:
    """Heads that the base has with another number of labels: name in memory → shape in the adapter."""
    heads: dict[str, Shape] = {}
    if base.skeleton is None:
        return heads
    for key, entry in found.whole.items():
        place = base.find(key)
        if entry.shape != base.entries[key].shape and place is not None and not base.is_vocabulary(place):
            heads[place.memory or key] = entry.shape
    return heads


def _as_trained(config: AdapterConfig, found: AdapterMatch, base: BaseWeights) -> NewModel:
    """The base in the class that an adapter without a new head was trained in, if it has its weights."""
    asked = _class_as_trained(config, base)
    if asked is None or base.config is None:
        return NewModel()
    now, trained = ((json.loads(c).get("architectures") or [""])[0] for c in (base.config, asked))
    if now == trained:
        return NewModel()
    fit = check_fit(skeleton_of(asked), {k: e.shape for k, e in {**base.entries, **found.whole}.items()})
    if not (fit.missing or fit.unexpected or fit.mismatched):
        return NewModel(asked, notes=(f"the model is a {trained} now, as the adapter was trained",))
    if config.task_type not in _OWN_HEADS:
        return NewModel()
    told = f"it was trained for {config.task_type} and holds no head for that"
    return NewModel(notes=(f"{told}: the model stays {now or 'as it was'}",))


def _class_as_trained(config: AdapterConfig, base: BaseWeights) -> bytes | None:
    """The config.json of the model that the adapter was trained in; None if that is not known."""
    if base.config is None or base.skeleton is None:
        return None
    return for_task(base.config, config.task_type, config.model_class)


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
    assert base.config is not None
    notes = _told_untied(found)
    return NewModel(_untie(base.config, found, base), notes=notes)


def _told_untied(found: AdapterMatch) -> tuple[str, ...]:
    sources = ", ".join(dict.fromkeys(found.untied.values()))
    return (f"{', '.join(found.untied)} is no longer tied to {sources}",) if found.untied else ()


def _untie(config_json: bytes, found: AdapterMatch, base: BaseWeights) -> bytes:
    """The config.json that ties none of the weights that differ now; what else that unties is copied."""
    names = tuple(found.untied)
    paths = how_to_untie(config_json, names)
    others = left_untied(config_json, names) - found.untied.keys() if paths else frozenset()
    copies = {name: key for name in sorted(others) if (key := _source_of(name, found, base)) is not None}
    if not paths or len(copies) < len(others):
        raise _refusal(
            f"it changes {names[0]}, which the base has tied to {found.untied[names[0]]}, and config.json"
            " cannot say of this model that only one of them changed"
        )
    found.untied |= copies
    found.new |= {name: found.whole[key] for name, key in copies.items() if key in found.whole}
    return _pretty(untied(config_json, paths))


def _source_of(name: str, found: AdapterMatch, base: BaseWeights) -> str | None:
    """The tensor that a tied parameter is stored as; None if that is not one tensor, or is computed."""
    place = base.find(name)
    key = place.pieces[0].key if place is not None and len(place.pieces) == 1 else None
    return None if any(key in table for table in (found.factors, found.biases, found.tokens)) else key


def _with_heads(
    config: AdapterConfig,
    heads: Mapping[str, Shape],
    found: AdapterMatch,
    base: BaseWeights,
    labels: dict[str, object],
) -> NewModel:
    shown, task = ", ".join(list(heads)[:_SHOWN]), config.task_type or config.model_class
    asked = _class_as_trained(config, base)
    if asked is None:
        why = f"its model is not known for {task}" if task else "it does not name its task"
        raise _refusal(f"it holds {shown}, which the base does not have, and {why}")
    made = with_labels(json.dumps({**json.loads(asked), **labels}).encode(), heads)
    if made is None:
        shape = list(next(iter(heads.values())))
        raise _refusal(f"it holds {shown}, which the model for {task} does not have in the shape {shape}")
    data, skeleton = made
    for name in [
        n for n in found.untied if n not in skeleton.shapes
    ]:  # the head of the language model is gone
        for table in (found.untied, found.new, found.factors):
            table.pop(name, None)
    data = _untie(data, found, base) if found.untied else data
    fit = check_fit(skeleton, {k: e.shape for k, e in {**base.entries, **found.whole, **found.new}.items()})
    if missing := sorted(set(fit.missing) - found.untied.keys()):
        raise _refusal(
            f"neither it nor the base holds {', '.join(missing[:_SHOWN])}, which would be left at random"
        )
    dropped = frozenset(fit.unexpected) & base.entries.keys()
    notes = [f"the model is a {json.loads(data)['architectures'][0]} now, with {shown} of the adapter"]
    if dropped:
        left = ", ".join(sorted(dropped)[:_SHOWN])
        notes.append(f"it has no place for {left} of the base, which is left out")
    return NewModel(data, dropped, (*notes, *_told_untied(found)))


def _refusal(why: str) -> InvalidInputError:
    return InvalidInputError(f"the adapter cannot be folded: {why}", kind=ErrorKind.INCOMPATIBLE)


def _labels(objects: ObjectStore, adapter: Manifest) -> dict[str, object]:
    """The names of the labels, where a trainer saved a config.json of the whole model with the adapter."""
    file = next((f for f in adapter.files if f.path == CONFIG and f.tensors is None), None)
    if file is None or file.size > MAX_JSON_BYTES:
        return {}
    return labels_of(objects.blobs.read(file.blob, max_bytes=MAX_JSON_BYTES))


def _pretty(config_json: bytes) -> bytes:
    return json.dumps(json.loads(config_json), indent=2, ensure_ascii=False).encode() + b"\n"
