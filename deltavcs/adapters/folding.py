"""Folding an adapter into its base: one whole checkpoint that computes what base and adapter do together."""

from __future__ import annotations

from dataclasses import dataclass, replace

from deltavcs.adapters.adapter_config import read_adapter_config
from deltavcs.adapters.adapter_match import AdapterMatch, match_adapter
from deltavcs.adapters.base_weights import BaseWeights
from deltavcs.adapters.factors import FactorCache
from deltavcs.adapters.folded_files import folded_files
from deltavcs.adapters.folded_weight import FoldedBias, FoldedWeight, TokensReplaced
from deltavcs.adapters.new_heads import NewModel, new_model
from deltavcs.checkpoint.view import Content, View, view_of, with_tensors
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import Manifest, TensorEntry
from deltavcs.objects.store import ObjectStore


@dataclass(frozen=True, slots=True)
class Folded:
    """A base with an adapter folded in.

    Attributes:
        notes: what else became of the base, in sentences without a full stop.
    """

    view: View
    notes: tuple[str, ...] = ()


def fold_adapter(objects: ObjectStore, adapter: Manifest, base: Manifest) -> View:
    """The base with an adapter folded in, as `fold`."""
    return fold(objects, adapter, base).view


def fold(objects: ObjectStore, adapter: Manifest, base: Manifest) -> Folded:
    """The base with an adapter folded in; one rounding, to the dtype of each weight.

    What PEFT's `merge_and_unload` makes, but where an embedding and a head are tied and only one of them was
    adapted: each gets its own weight, as in the model that was trained. Tokenizer and template are the
    adapter's if it holds a tokenizer; all other files are the base's, config.json with what changed.

    Raises:
        InvalidInputError: `bad-checkpoint` if the adapter has no configuration; `incompatible` if it does not
            fit the base, or cannot be folded: of a type other than LoRA, or initialised by changing the base.
    """
    config = read_adapter_config(objects, adapter)
    _refuse(config.why_not_folded)
    weights = BaseWeights(objects, base)
    found = match_adapter(config, adapter.primary, weights)
    _refuse(next(iter(found.problems), None))
    made = new_model(config, found, weights, objects, adapter)
    tensors = _contents(objects, found, weights)
    tensors = {k: c for k, c in tensors.items() if k not in made.dropped}
    view = with_tensors(objects, view_of(base), tensors, beside=_beside(found, weights, made))
    view = folded_files(objects, view, adapter, base, made)
    return Folded(view, made.notes)


def _refuse(why: str | None) -> None:
    if why is not None:
        raise InvalidInputError(f"the adapter cannot be folded: {why}", kind=ErrorKind.INCOMPATIBLE)


def _contents(objects: ObjectStore, found: AdapterMatch, base: BaseWeights) -> dict[str, Content]:
    tensors: dict[str, Content] = dict(view_of(base.manifest).tensors)
    cache = FactorCache(objects)
    for key, entry in {**found.whole, **found.new}.items():
        tensors[key] = Content(entry.dtype, entry.shape, blob=entry.blob)
    for name in found.untied:
        tensors.setdefault(name, _stored(_weight(name, found, base)))
    for key, factors in found.factors.items():
        weight = _weight(key, found, base)
        tensors[key] = replace(
            _stored(weight), blob=None, computed=FoldedWeight(objects, weight, factors, cache)
        )
    for key, (update, scale) in found.biases.items():
        weight = _weight(key, found, base)
        tensors[key] = replace(
            _stored(weight), blob=None, computed=FoldedBias(objects, weight, update, scale)
        )
    for key, rows in found.tokens.items():
        weight = _weight(key, found, base)
        tensors[key] = replace(_stored(weight), blob=None, computed=TokensReplaced(objects, weight, rows))
    return tensors


def _weight(key: str, found: AdapterMatch, base: BaseWeights) -> TensorEntry:
    """What an update is added to: a tensor that the adapter holds whole, or the base's."""
    return found.new.get(key) or found.whole.get(key) or base.entries[found.untied.get(key, key)]


def _stored(entry: TensorEntry) -> Content:
    return Content(entry.dtype, entry.shape, blob=entry.blob)


def _beside(found: AdapterMatch, base: BaseWeights, made: NewModel) -> dict[str, str]:
    """New tensor → the one of the base after which it is written."""
    last = [
        k for f in base.manifest.files for k in f.tensors or () if k in base.entries and k not in made.dropped
    ][-1]
    return {name: found.untied.get(name, last) for name in [*found.new, *found.untied]}
