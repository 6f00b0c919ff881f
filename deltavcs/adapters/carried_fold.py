"""An adapter carried over to another base and folded into it: W_t + λ·(W'_s − W_s), W'_s with the adapter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from deltavcs.adapters.carried_adapter import CarriedAdapter
from deltavcs.adapters.folding import fold_adapter
from deltavcs.adapters.saved_weights import weight_named
from deltavcs.advice import Advice
from deltavcs.checkpoint.elements import read_elements
from deltavcs.checkpoint.view import Content, View
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import TensorEntry
from deltavcs.objects.store import ObjectStore
from deltavcs.tensors.cast import from_float64
from deltavcs.tensors.dtypes import dtype_of

_BLOCK_ELEMENTS = 1 << 18


def fold_carried(objects: ObjectStore, carried: CarriedAdapter, *, scale: float) -> View:
    """The new base with the adapter folded in; one rounding, to the dtype of each weight.

    Where only products are added and λ is 1, it is what folding the carried adapter gives, to the bit.
    Weights that the adapter keeps whole, DoRA and other λ are computed as the change of the old base, in
    float64.

    Raises:
        InvalidInputError: `incompatible` as folding raises, or if the vocabularies differ.
    """
    onto = fold_adapter(objects, carried.adapter, carried.target.manifest)
    below = fold_adapter(objects, carried.adapter, carried.source.manifest)
    before = carried.target.entries
    tensors = dict(onto.tensors)
    for key, content in onto.primary.items():
        old = before.get(key)
        if old is not None and content.blob == old.blob:
            continue
        if scale == 1 and not carried.config.dora and _only_adds(carried, key):
            continue
        target = old or weight_named(carried.target, [key])
        source_key = _in_source(carried, key)
        source = weight_named(carried.source, [key]) or carried.source.entries.get(source_key)
        tuned = below.tensors.get(source_key)
        if target is None and source is None:
            continue  # a new head: neither base has one
        if target is None or source is None or tuned is None:
            raise _unlike(key)
        if len({tuned.shape[1:], target.shape[1:], source.shape[1:], content.shape[1:]}) > 1:
            raise _unlike(key)
        if content.shape[:1] != tuned.shape[:1] or content.shape[:1] < target.shape[:1]:
            raise _unlike(key)
        shifted = ShiftedWeight(objects, target, tuned, source, scale)
        tensors[key] = Content(content.dtype, content.shape, computed=shifted)
    return View(onto.files, tensors)


def _only_adds(carried: CarriedAdapter, key: str) -> bool:
    match = carried.match
    return key not in match.whole and key not in match.tokens and key not in match.new


def _in_source(carried: CarriedAdapter, key: str) -> str:
    """The name of a tensor of the target in the source: its own, or that of the same parameter."""
    if key in carried.source.entries:
        return key
    place = carried.target.find(key)
    other = carried.source.find(place.memory) if place is not None and place.memory else None
    return other.pieces[0].key if other is not None and len(other.pieces) == 1 else key


def _unlike(key: str) -> InvalidInputError:
    return InvalidInputError(
        f"{key} has other rows in the new base than the adapter has for it, so it cannot be folded in at"
        " once",
        kind=ErrorKind.INCOMPATIBLE,
        advice=Advice.FOLD_LATER,
    )


class ShiftedWeight:
    """W_t + λ·(W'_s − W_s) in float64 with one rounding; rows that a base lacks count as zeros."""

    def __init__(
        self, objects: ObjectStore, target: TensorEntry, tuned: Content, source: TensorEntry, scale: float
    ) -> None:
        self._objects, self._target, self._source, self._scale = objects, target, source, scale
        # What is computed is read unrounded.
        self._tuned = tuned if tuned.computed is None else replace(tuned, dtype="F64")

    def read_into(self, start: int, out: memoryview, dtype: str) -> None:
        """Fill `out` with bytes of the result in `dtype`; both ends lie on whole elements."""
        itemsize = dtype_of(dtype).itemsize
        first, last = start // itemsize, (start + len(out)) // itemsize
        for at in range(first, last, _BLOCK_ELEMENTS):
            count = min(_BLOCK_ELEMENTS, last - at)
            piece = from_float64(self._values(at, count), dtype)
            out[(at - first) * itemsize : (at + count - first) * itemsize] = piece.data

    def _values(self, at: int, count: int) -> npt.NDArray[np.float64]:
        new, old = (read_elements(self._objects, e, at, count) for e in (self._target, self._source))
        change = self._tuned_elements(at, count) - old
        return new + (change if self._scale == 1 else self._scale * change)

    def _tuned_elements(self, at: int, count: int) -> npt.NDArray[np.float64]:
        tuned = self._tuned
        if tuned.blob is not None:
            return read_elements(self._objects, TensorEntry(tuned.blob, tuned.dtype, tuned.shape), at, count)
        raw = np.empty(count, np.float64)
        tuned.read_into(self._objects.blobs, at * 8, memoryview(raw.data).cast("B"))
        return raw
