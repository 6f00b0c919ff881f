"""The weights of checkpoints of 8-bit floats with scales: W = float64(q) · float64(s), rounded once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from deltavcs.checkpoint.elements import read_elements, read_raw
from deltavcs.checkpoint.materialize import torch_name
from deltavcs.checkpoint.patching import dequantised_files
from deltavcs.checkpoint.quantisation_config import QUANTISATION_FILES
from deltavcs.checkpoint.quantised import Purpose, Quantisation, quantisations_of, quantised_error
from deltavcs.checkpoint.scaled_floats import ScaledFloats
from deltavcs.checkpoint.view import Content, View, replace_files, with_tensors
from deltavcs.objects.model import TensorEntry
from deltavcs.objects.store import ObjectStore
from deltavcs.tensors.cast import from_float64
from deltavcs.tensors.dtypes import dtype_of

_SLAB_ELEMENTS = 1 << 18
_EXPONENTS = ("F8_E8M0", "U8")


def dequantise(objects: ObjectStore, view: View, name: str) -> tuple[View, tuple[Quantisation, ...]]:
    """The view with its weights in place of the stored numbers, and how it was quantised.

    Companions and the description of the quantisation are left out of the files. Weights get the dtype that
    config.json computes in, `bfloat16` if it names none. A view of plain weights is given back as it is.

    Args:
        view: of what is stored.
        name: the revision, for the message.

    Raises:
        InvalidInputError: `quantised` for schemes other than 8-bit floats with scales.
    """
    found = quantisations_of(objects, view)
    if any(one.obstacle for one in found):
        raise quantised_error(name, found, Purpose.DEQUANTISE)
    for one in found:
        view = _dequantised(objects, view, one)
    return view, found


def _dequantised(objects: ObjectStore, view: View, how: Quantisation) -> View:
    tensors = {k: c for k, c in view.tensors.items() if k not in how.companions}
    for key, scaled in how.scaled.items():
        weight = DequantisedWeight(objects, view.tensors[key], view.tensors[scaled.scale], scaled)
        tensors[key] = Content(how.dtype, view.tensors[key].shape, computed=weight)
    out = with_tensors(objects, view, tensors)
    files = dequantised_files(objects, out, how.folder, torch_name(how.dtype))
    return replace_files(out, files, drop=[how.folder + name for name in QUANTISATION_FILES])


class DequantisedWeight:
    """W[i, j] = q[i, j] · s[i // m, j // n] in float64, for a matrix or several.

    Args:
        weight: q, stored.
        scales: s, stored: floats, or exponents of two in a byte (E8M0).
    """

    def __init__(self, objects: ObjectStore, weight: Content, scales: Content, how: ScaledFloats) -> None:
        assert weight.blob is not None and scales.blob is not None
        self._objects = objects
        self._weight = TensorEntry(weight.blob, weight.dtype, weight.shape)
        self._scales = TensorEntry(scales.blob, scales.dtype, scales.shape)
        self._how = how
        *_, self._rows, self._columns = (1, *weight.shape)
        self._column_of = np.arange(self._columns) // how.columns

    def read_into(self, start: int, out: memoryview, dtype: str) -> None:
        """Fill `out` with bytes of the weights in `dtype`; both ends lie on whole elements."""
        itemsize, columns = dtype_of(dtype).itemsize, self._columns
        first, last = start // itemsize, (start + len(out)) // itemsize
        step = max(1, _SLAB_ELEMENTS // columns)
        for row in range(first // columns, -(-last // columns), step):
            low, high = max(first, row * columns), min(last, (row + step) * columns)
            stored = read_elements(self._objects, self._weight, low, high - low)
            factors = self._factors(row, -(-high // columns)).reshape(-1)
            with np.errstate(all="ignore"):
                values = stored * factors[low - row * columns : high - row * columns]
            out[(low - first) * itemsize : (high - first) * itemsize] = from_float64(values, dtype).data

    def _factors(self, row: int, end: int) -> npt.NDArray[np.float64]:
        """The factor of every element of some rows, shape (end − row, columns)."""
        matrix, inside = np.divmod(np.arange(row, end), self._rows)
        grid_rows, grid_columns = self._how.grid
        scale_row = matrix * grid_rows + inside // self._how.rows
        base = int(scale_row[0])
        count = int(scale_row[-1]) + 1 - base
        scales = self._read(base * grid_columns, count * grid_columns).reshape(count, grid_columns)
        factors: npt.NDArray[np.float64] = scales[scale_row - base][:, self._column_of]
        return factors

    def _read(self, start: int, count: int) -> npt.NDArray[np.float64]:
        if self._scales.dtype not in _EXPONENTS:
            return read_elements(self._objects, self._scales, start, count)
        _, raw = read_raw(self._objects, self._scales, start, count)
        with np.errstate(all="ignore"):
            powers = np.exp2(raw.astype(np.float64) - 127)
        return np.where(raw == 0xFF, np.nan, powers)
