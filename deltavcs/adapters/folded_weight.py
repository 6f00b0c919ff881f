"""Weights with an adapter folded in, computed as they are read: in float64, with one rounding."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import numpy.typing as npt

from deltavcs.adapters.adapter_match import TokenRows
from deltavcs.adapters.factors import FactorCache, Factors, LowRank, load_low_rank
from deltavcs.checkpoint.elements import read_elements
from deltavcs.objects.model import TensorEntry
from deltavcs.objects.store import ObjectStore
from deltavcs.tensors.cast import from_float64
from deltavcs.tensors.dtypes import dtype_of, n_elements

_FOLD_ELEMENTS = 1 << 18
Block = Callable[[int, int], npt.NDArray[np.float64]]
"""Rows from the first to before the last, as a matrix."""


class FoldedWeight:
    """W + Σ s·B·A in float64, in fixed blocks of rows so that every read gives the same bits.

    With a magnitude m it is m/‖V‖·V with V = W + s·B·A, the norm over the inputs of each output (DoRA, Liu et
    al., 2024, eq. 5).
    """

    def __init__(
        self,
        objects: ObjectStore,
        weight: TensorEntry,
        factors: Sequence[Factors],
        cache: FactorCache | None = None,
    ) -> None:
        self._cache = cache
        self._objects, self._weight, self._factors = objects, weight, factors
        # A stack of experts is their matrices below each other; a kernel lies within a row.
        stacked = len(weight.shape) == 3 and any(f.stacked for f in factors)
        self._columns = weight.shape[2] if stacked else prod(weight.shape[1:])
        self._n_rows = n_elements(weight.shape) // max(1, self._columns)
        self._lock = threading.Lock()
        self._loaded: list[LowRank] | None = None
        self._column_scale: npt.NDArray[np.float64] | None = None

    def read_into(self, start: int, out: memoryview, dtype: str) -> None:
        """Fill `out` with bytes of the result in `dtype`; both ends lie on whole elements."""
        read_rows(self._block, (self._n_rows, self._columns), start, out, dtype)
        if start + len(out) == self._n_rows * self._columns * dtype_of(dtype).itemsize:
            self._loaded = None  # the last of it was read; factors of one weight at a time are enough

    def _block(self, low: int, high: int) -> npt.NDArray[np.float64]:
        values = self._sum(low, high)
        magnitude = self._factors[0].magnitude
        if magnitude is None:
            return values
        scale: npt.NDArray[np.float64]
        if self._factors[0].transposed:
            scale = self._scale_of_columns(magnitude)
            return values * scale
        norms = np.linalg.norm(values, axis=1)
        scale = read_elements(self._objects, magnitude, low, high - low) / norms
        return values * scale[:, None]

    def _sum(self, low: int, high: int) -> npt.NDArray[np.float64]:
        count = (high - low) * self._columns
        values = read_elements(self._objects, self._weight, low * self._columns, count)
        values = values.reshape(high - low, self._columns)
        for factors, update in zip(self._factors, self._updates(), strict=True):
            first, last = max(low, factors.at), min(high, factors.at + update.n_rows)
            if first < last:
                values[first - low : last - low] += update.multiply(first - factors.at, last - factors.at)
        return values

    def _updates(self) -> list[LowRank]:
        with self._lock:
            if self._loaded is None:
                self._loaded = [load_low_rank(self._objects, f, self._cache) for f in self._factors]
            return self._loaded

    def _scale_of_columns(self, magnitude: TensorEntry) -> npt.NDArray[np.float64]:
        """M/‖V‖ of a weight [in, out]: the norms need all of it."""
        if self._column_scale is None:
            squares: npt.NDArray[np.float64] = np.zeros(self._columns)
            step = max(1, _FOLD_ELEMENTS // max(1, self._columns))
            for low in range(0, self._n_rows, step):
                squares += np.square(self._sum(low, min(low + step, self._n_rows))).sum(axis=0)
            self._column_scale = read_elements(self._objects, magnitude, 0, self._columns) / np.sqrt(squares)
        return self._column_scale


class FoldedBias:
    """b + s·Δb in float64."""

    def __init__(self, objects: ObjectStore, bias: TensorEntry, update: TensorEntry, scale: float) -> None:
        self._objects, self._bias, self._update, self._scale = objects, bias, update, scale

    def read_into(self, start: int, out: memoryview, dtype: str) -> None:
        """Fill `out` with bytes of the result in `dtype`."""
        read_rows(self._block, (n_elements(self._bias.shape), 1), start, out, dtype)

    def _block(self, low: int, high: int) -> npt.NDArray[np.float64]:
        old, new = (read_elements(self._objects, e, low, high - low) for e in (self._bias, self._update))
        return (old + self._scale * new).reshape(-1, 1)


class TokensReplaced:
    """A weight with some rows replaced by others."""

    def __init__(self, objects: ObjectStore, weight: TensorEntry, replaced: TokenRows) -> None:
        self._objects, self._weight, self._rows = objects, weight, replaced.rows
        self._place = {token: i for i, token in enumerate(replaced.tokens)}

    def read_into(self, start: int, out: memoryview, dtype: str) -> None:
        """Fill `out` with bytes of the result in `dtype`; a number that needs no rounding gets none."""
        read_rows(self._block, (self._weight.shape[0], prod(self._weight.shape[1:])), start, out, dtype)

    def _block(self, low: int, high: int) -> npt.NDArray[np.float64]:
        columns = prod(self._weight.shape[1:])
        values = read_elements(self._objects, self._weight, low * columns, (high - low) * columns)
        values = values.reshape(-1, columns)
        for token, row in self._place.items():
            if low <= token < high:
                values[token - low] = read_elements(self._objects, self._rows, row * columns, columns)
        return values


def read_rows(block: Block, shape: tuple[int, int], start: int, out: memoryview, dtype: str) -> None:
    """Fill `out` with a stretch of a matrix that is computed in fixed blocks of rows.

    Args:
        block: rows `low` to `high` in float64, shape [rows, columns].
        start: byte of the matrix in `dtype`; on a whole element, as the end of `out`.
    """
    itemsize = dtype_of(dtype).itemsize
    rows, columns = shape
    step = max(1, _FOLD_ELEMENTS // max(1, columns))
    first, last = start // itemsize, (start + len(out)) // itemsize
    for row in range(first // max(1, columns) // step * step, rows, step):
        low, high = row * columns, min(row + step, rows) * columns
        if low >= last:
            break
        values = block(row, min(row + step, rows)).reshape(-1)
        keep_low, keep_high = max(low, first), min(high, last)
        piece = from_float64(values[keep_low - low : keep_high - low], dtype)
        out[(keep_low - first) * itemsize : (keep_high - first) * itemsize] = piece.data
