"""Weights that an adapter keeps whole, and the weights of its base that they were."""

from __future__ import annotations

from collections.abc import Mapping

from deltavcs.adapters.adapter_keys import Part, parse_key, plain_name, whole_names
from deltavcs.adapters.base_weights import BaseWeights, Piece
from deltavcs.objects.model import Manifest, TensorEntry


def saved_weights(adapter: Manifest, base: BaseWeights) -> Mapping[str, TensorEntry | None]:
    """Key in the adapter of every weight that it keeps whole → the tensor of the base that it replaces.

    Whole are `modules_to_save`, trained biases, embeddings and heads that PEFT saves beneath their factors
    (`base_layer`).

    Returns:
        None for a weight that the base does not have, such as a new head, or keeps in parts.
    """
    return _found(adapter, base, Part.WHOLE)


def copied_weights(adapter: Manifest, base: BaseWeights) -> Mapping[str, TensorEntry | None]:
    """The same of the copies that PEFT keeps of weights that an adapter replaces (`original_module`)."""
    return _found(adapter, base, Part.COPY)


def _found(adapter: Manifest, base: BaseWeights, part: Part) -> dict[str, TensorEntry | None]:
    keys = [key for key in adapter.primary if parse_key(key).part is part]
    plain = {key: plain_name(key).replace(".original_module.", ".") for key in keys}
    return {key: weight_named(base, whole_names(name)) for key, name in plain.items()}


def weight_named(base: BaseWeights, names: list[str]) -> TensorEntry | None:
    """The tensor of a base that is the parameter of the first of these names that it has, tied or not."""
    for name in names:
        place = base.find(name)
        if place is not None and len(place.pieces) == 1 and _is_all(place.pieces[0]):
            return base.entries[place.pieces[0].key]
    return None


def _is_all(piece: Piece) -> bool:
    return (piece.expert, piece.first, piece.at, piece.rows) == (None, 0, 0, None)
