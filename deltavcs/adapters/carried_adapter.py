"""An adapter carried over to another base: the same factors, attached to other weights.

What an adapter adds (B·A, biases of its own) is the same on any base. What it keeps whole (`modules_to_save`,
embeddings saved beneath their factors, trained rows and biases) are weights of its base with their training
in them, and left as they are they would bring the old base back: of these the change is carried over,
W_t + λ·(W_saved − W_s).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from deltavcs.adapters.adapter_config import LORA, AdapterConfig, read_adapter_config
from deltavcs.adapters.adapter_match import AdapterMatch, TokenRows, match_adapter
from deltavcs.adapters.base_weights import BaseWeights
from deltavcs.adapters.folded_weight import read_rows
from deltavcs.adapters.saved_weights import copied_weights, saved_weights
from deltavcs.advice import Advice
from deltavcs.checkpoint.elements import read_elements
from deltavcs.checkpoint.patching import adapter_config_file
from deltavcs.checkpoint.quantised import quantisations_of
from deltavcs.checkpoint.view import Content, View, replace_files, view_of, with_tensors
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.derivation import Derivation, Operand
from deltavcs.objects.model import Manifest, TensorEntry
from deltavcs.objects.store import ObjectStore
from deltavcs.oid import BlobId
from deltavcs.operators.parse import encode_program
from deltavcs.tensors.dtypes import n_elements


@dataclass(frozen=True, slots=True)
class SavedWeight:
    """A weight that an adapter keeps whole, and what it is in both bases; None where one has no such."""

    saved: TensorEntry
    source: TensorEntry | None
    target: TensorEntry | None


@dataclass(slots=True)
class CarriedAdapter:
    """An adapter between two bases.

    Attributes:
        match: what it changes, by the names of the target's tensors.
        whole: key in the adapter → a weight that it keeps whole.
        copies: key in the adapter → a copy of a weight of its base.
        tokens: key in the adapter → rows of an embedding, and that embedding in both bases.
        padded: what has other numbers of rows in the target, in words.
        described: the target is quantised: its weights are those that its config.json describes, without
            values.
    """

    config: AdapterConfig
    adapter: Manifest
    source: BaseWeights
    target: BaseWeights
    match: AdapterMatch
    whole: dict[str, SavedWeight] = field(default_factory=dict)
    copies: dict[str, SavedWeight] = field(default_factory=dict)
    tokens: dict[str, tuple[TokenRows, TensorEntry, TensorEntry]] = field(default_factory=dict)
    padded: list[str] = field(default_factory=list)
    described: bool = False

    @property
    def new(self) -> tuple[str, ...]:
        """Keys of weights that neither base has, such as a new head: they are carried over as they are."""
        return tuple(k for k, w in self.whole.items() if w.source is None and w.target is None)


def open_carried(
    objects: ObjectStore, name: str, adapter: Manifest, source: Manifest, target: Manifest
) -> CarriedAdapter:
    """Fit an adapter to another base than its own.

    Args:
        name: what to call the adapter in messages.

    Raises:
        InvalidInputError: `incompatible` for adapters that are no sum with their base, or whose modules or
            sizes the target does not have.
    """
    config = read_adapter_config(objects, adapter)
    why_not = config.why_not_folded
    if config.peft_type != LORA:
        why_not = f"it is of the type {config.peft_type}, and only what LoRA adds is the same on any base"
    if why_not is not None:
        raise InvalidInputError(
            f"{name} cannot be carried over: {why_not}",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.COMMIT_FOR_OTHER_BASE,
        )
    old, new = BaseWeights(objects, source), BaseWeights(objects, target)
    described = bool(quantisations_of(objects, target))
    if described:
        new = _described(objects, name, new)
    match = match_adapter(config, adapter.primary, new)
    if match.problems:
        raise InvalidInputError(
            f"{name} cannot be carried over: {match.problems[0]}", kind=ErrorKind.INCOMPATIBLE
        )
    found = CarriedAdapter(config, adapter, old, new, match, described=described)
    for find, kept in ((saved_weights, found.whole), (copied_weights, found.copies)):
        in_source, in_target = find(adapter, old), find(adapter, new)
        for key, entry in in_source.items():
            kept[key] = SavedWeight(adapter.primary[key], entry, in_target[key])
            _check_saved(key, kept[key])
    found.padded = [told for key, weight in found.whole.items() if (told := _rows_told(key, weight))]
    # Only what is kept of the old base needs it: it may be quantised otherwise.
    of_source = match_adapter(config, adapter.primary, old).tokens if match.tokens else {}
    for rows, (target_key, replaced) in zip(of_source.items(), match.tokens.items(), strict=True):
        key = next(k for k, e in adapter.primary.items() if e is replaced.rows)
        found.tokens[key] = (replaced, old.entries[rows[0]], new.entries[target_key])
    return found


def _described(objects: ObjectStore, name: str, base: BaseWeights) -> BaseWeights:
    """The weights that a quantised base stands for, by its config.json: names and shapes, and no values."""
    if base.skeleton is None:
        raise InvalidInputError(
            f"{name} cannot be carried over: the new base is quantised and has no config.json that"
            " transformers knows, so nothing tells whether the factors fit",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.COMMIT_FOR_OTHER_BASE,
        )
    nothing = BlobId("0" * 64)
    entries = {n: TensorEntry(nothing, "F32", shape) for n, shape in base.skeleton.shapes.items()}
    return BaseWeights(objects, Manifest(base.manifest.files, entries))


def _rows_told(key: str, weight: SavedWeight) -> str:
    if weight.target is None or weight.target.shape[:1] == weight.saved.shape[:1]:
        return ""
    rows = weight.saved.shape[0], weight.target.shape[0]
    return f"{key} ({rows[0]} / {rows[1]} → {max(rows)} rows)"


def _check_saved(key: str, weight: SavedWeight) -> None:
    source, target = weight.source, weight.target
    if (source is None) != (target is None):
        raise InvalidInputError(
            f"the adapter keeps {key} whole, and only"
            f" {'the new' if source is None else 'its own'} base has it",
            kind=ErrorKind.INCOMPATIBLE,
        )
    if source is None or target is None:
        return
    shapes = [weight.saved.shape, source.shape, target.shape]
    rows = [s[0] if s else 1 for s in shapes]
    if len({s[1:] for s in shapes}) > 1 or (rows[2] < rows[1] and rows[2] < rows[0]):
        raise InvalidInputError(
            f"{key} is {list(shapes[0])}, in its own base {list(shapes[1])}, in the new one"
            f" {list(shapes[2])}",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.CHECK_BASE,
        )


def carry_adapter(
    objects: ObjectStore,
    carried: CarriedAdapter,
    *,
    scale: float,
    base_name: str | None,
    revision: str | None,
) -> View:
    """The adapter for its new base.

    Tensors without the old base in them keep their blobs. λ goes into `lora_alpha` and `alpha_pattern`, so
    that it scales the products exactly.

    Args:
        scale: λ.
        base_name: for `base_model_name_or_path`; None if the base has no name outside of the repository.
        revision: of the base on the Hub.

    Raises:
        InvalidInputError: `incompatible` for DoRA, whose magnitudes are norms of the old base's weights.
    """
    if carried.config.dora:
        raise InvalidInputError(
            "this is a DoRA adapter, and its magnitudes are norms of its own base's weights",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.CARRY_FOLDED,
        )
    lead = view_of(carried.adapter)
    tensors = dict(lead.tensors)
    for key, weight in [*carried.whole.items(), *carried.copies.items()]:
        tensors[key] = _rebased(weight, scale)
    for key, (replaced, source, target) in carried.tokens.items():
        rows = RebasedRows(objects, replaced, source, target, scale)
        tensors[key] = Content(replaced.rows.dtype, replaced.rows.shape, computed=rows)
    tensors |= _padded_factors(objects, carried, tensors)
    view = with_tensors(objects, lead, tensors)

    def edit(config: dict[str, Any]) -> bool:
        config["base_model_name_or_path"] = base_name
        config["revision"] = revision
        config["lora_alpha"] = _times(config["lora_alpha"], scale)
        pattern = config.get("alpha_pattern")
        if isinstance(pattern, dict) and pattern:
            config["alpha_pattern"] = {name: _times(alpha, scale) for name, alpha in pattern.items()}
        return True

    return replace_files(view, adapter_config_file(objects, view, edit))


def _times(alpha: Any, scale: float) -> Any:
    scaled = float(alpha) * scale
    return int(scaled) if scaled.is_integer() and abs(scaled) < 2**53 else scaled


def transfer_steps(scale: float) -> Mapping[str, object]:
    """The parameters of `x_0 + λ·(x_1 − x_2)` as a derived operator."""
    return encode_program([0, 1, 2, "-", "+"] if scale == 1 else [0, 1, 2, "-", ("*", scale), "+"])


def _rebased(weight: SavedWeight, scale: float) -> Content:
    """W_t + λ·(W_saved − W_s), in the dtype of the saved weight."""
    saved, source, target = weight.saved, weight.source, weight.target
    if source is None or target is None:
        return Content(saved.dtype, saved.shape, blob=saved.blob)
    untrained = saved.blob == source.blob
    if untrained and (target.dtype, len(target.shape)) == (saved.dtype, len(saved.shape)):
        return Content(target.dtype, target.shape, blob=target.blob)
    rows = [e.shape[0] if e.shape else 1 for e in (target, saved, source)]
    inner = n_elements(saved.shape[1:])
    counts = [rows[0] * inner, rows[1] * inner, min(rows[1:]) * inner]
    operands = tuple(Operand(e.blob, n) for e, n in zip((target, saved, source), counts, strict=True))
    shape = (max(rows[:2]), *saved.shape[1:]) if saved.shape else ()
    return Content(saved.dtype, shape, derivation=Derivation("linear", transfer_steps(scale), operands))


def _padded_factors(
    objects: ObjectStore, carried: CarriedAdapter, tensors: Mapping[str, Content]
) -> dict[str, Content]:
    """Factors of vocabularies that have more rows in the target: the rows that are new get no update."""
    out: dict[str, Content] = {}
    for key, factors in carried.match.factors.items():
        saved = carried.match.whole.get(key)
        mine = next((k for k, e in carried.adapter.primary.items() if e is saved), None)
        if saved is None or mine is None or tensors[mine].shape[0] == saved.shape[0]:
            continue
        rows = tensors[mine].shape[0]
        for one in factors:
            entry = one.a if one.transposed else one.b
            name = next(k for k, e in carried.adapter.primary.items() if e is entry)
            if one.transposed:
                wide = PaddedColumns(objects, entry, rows)
                out[name] = Content(entry.dtype, (entry.shape[0], rows), computed=wide)
            else:
                operand = Operand(entry.blob, n_elements(entry.shape))
                padding = Derivation("linear", encode_program([0]), (operand,))
                out[name] = Content(entry.dtype, (rows, *entry.shape[1:]), derivation=padding)
    return out


class RebasedRows:
    """Rows of an embedding, W_t + λ·(rows − W_s), in float64; a row that a base lacks counts as zeros."""

    def __init__(
        self,
        objects: ObjectStore,
        replaced: TokenRows,
        source: TensorEntry,
        target: TensorEntry,
        scale: float,
    ) -> None:
        self._objects, self._rows, self._tokens = objects, replaced.rows, replaced.tokens
        self._source, self._target, self._scale = source, target, scale

    def read_into(self, start: int, out: memoryview, dtype: str) -> None:
        """Fill `out` with bytes of the result in `dtype`; both ends lie on whole elements."""
        read_rows(self._block, (len(self._tokens), prod(self._rows.shape[1:])), start, out, dtype)

    def _block(self, low: int, high: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        columns = prod(self._rows.shape[1:])
        values = read_elements(self._objects, self._rows, low * columns, (high - low) * columns)
        values = values.reshape(-1, columns)
        for i, token in enumerate(self._tokens[low:high]):
            old, new = (self._row(e, token, columns) for e in (self._source, self._target))
            change = values[i] - old
            values[i] = new + (change if self._scale == 1 else self._scale * change)
        return values

    def _row(self, entry: TensorEntry, token: int, columns: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        return read_elements(self._objects, entry, token * columns, columns)


class PaddedColumns:
    """A matrix with zeros after each row."""

    def __init__(self, objects: ObjectStore, entry: TensorEntry, columns: int) -> None:
        self._objects, self._entry, self._columns = objects, entry, columns

    def read_into(self, start: int, out: memoryview, dtype: str) -> None:
        """Fill `out` with bytes of the result in `dtype`; both ends lie on whole elements."""
        read_rows(self._block, (self._entry.shape[0], self._columns), start, out, dtype)

    def _block(self, low: int, high: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        width = self._entry.shape[1]
        values = read_elements(self._objects, self._entry, low * width, (high - low) * width)
        return np.pad(values.reshape(-1, width), ((0, 0), (0, self._columns - width)))
