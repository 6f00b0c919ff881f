"""Folding a LoRA adapter into its base: W' = W + s·B·A (see `deltavcs.adapters.adapter_config`)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from deltavcs.adapters.adapter_config import adapter_config_of
from deltavcs.adapters.factors import Factors, match_adapter, read_factor
from deltavcs.checkpoint.elements import read_elements
from deltavcs.checkpoint.layout import is_vocabulary
from deltavcs.checkpoint.patching import resized_files
from deltavcs.checkpoint.view import Content, View, replace_files, view_of, with_tensors
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import Manifest, TensorEntry
from deltavcs.objects.store import ObjectStore
from deltavcs.tensors.cast import from_float64
from deltavcs.tensors.dtypes import dtype_of

_FOLD_ELEMENTS = 1 << 18


def fold_adapter(objects: ObjectStore, adapter: Manifest, base: Manifest) -> View:
    """The base with an adapter folded in; one rounding, to the dtype of each weight.

    Files are the base's, with the vocabulary size of the result where the adapter resized it.

    Raises:
        InvalidInputError: `bad-checkpoint` if the adapter has no LoRA configuration; `incompatible` if it
            does not fit the base.
    """
    config = adapter_config_of(objects, adapter)
    factors, whole = match_adapter(adapter, base)
    view, weights = view_of(base), base.primary
    tensors: dict[str, Content] = dict(view.tensors)
    for key, entry in whole.items():
        tensors[key] = Content(entry.dtype, entry.shape, blob=entry.blob)
    for key, pair in factors.items():
        weight = whole.get(key) or weights[key]
        scale = config.scale(key.removesuffix(".weight"))
        folded = FoldedWeight(objects, weight, pair, scale=scale, fan_in_fan_out=config.fan_in_fan_out)
        tensors[key] = Content(weight.dtype, weight.shape, computed=folded)
    merged = with_tensors(objects, view, tensors)
    if any(is_vocabulary(k) and t.shape != weights[k].shape for k, t in merged.primary.items()):
        merged = replace_files(merged, resized_files(objects, merged, base))
    return merged


class FoldedWeight:
    """W + s·B·A in float64, in fixed blocks of rows so that every read gives the same bits.

    Raises:
        InvalidInputError: `incompatible` if the shapes do not fit.
    """

    def __init__(
        self,
        objects: ObjectStore,
        weight: TensorEntry,
        factors: Factors,
        *,
        scale: float,
        fan_in_fan_out: bool,
    ) -> None:
        a, b = read_factor(objects, factors.a), read_factor(objects, factors.b)
        left, right = (a.T, b.T) if fan_in_fan_out or factors.embedding else (b, a)
        if left.shape[1] != right.shape[0] or (left.shape[0], right.shape[1]) != weight.shape:
            raise InvalidInputError(
                f"factors {list(factors.a.shape)} and {list(factors.b.shape)} do not fit a weight"
                f" {list(weight.shape)}",
                kind=ErrorKind.INCOMPATIBLE,
            )
        self._objects, self._weight, self._scale = objects, weight, scale
        self._left, self._right = left, right

    def read_into(self, start: int, out: memoryview, dtype: str) -> None:
        """Fill `out` with bytes of the result in `dtype`; both ends lie on whole elements."""
        itemsize = dtype_of(dtype).itemsize
        rows, columns = self._weight.shape
        step = max(1, _FOLD_ELEMENTS // columns)
        first, last = start // itemsize, (start + len(out)) // itemsize
        for row in range(first // columns // step * step, rows, step):
            low, high = row * columns, min(row + step, rows) * columns
            if low >= last:
                break
            values = self._block(row, min(step, rows - row), columns)
            keep_low, keep_high = max(low, first), min(high, last)
            piece = from_float64(values[keep_low - low : keep_high - low], dtype)
            out[(keep_low - first) * itemsize : (keep_high - first) * itemsize] = piece.data

    def _block(self, row: int, count: int, columns: int) -> npt.NDArray[np.float64]:
        old = read_elements(self._objects, self._weight, row * columns, count * columns)
        update = self._left[row : row + count] @ self._right
        return old + self._scale * update.reshape(-1)
