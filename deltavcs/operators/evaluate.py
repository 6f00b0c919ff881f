"""Operators from stored bytes to stored bytes: widen, evaluate, round."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from deltavcs.operators.equations import Linear
from deltavcs.operators.parse import Operation
from deltavcs.tensors.cast import Buffer, Float64Array, from_float64, to_float64
from deltavcs.tensors.dtypes import dtype_of
from deltavcs.tensors.programs import run_native

_SLICE_ELEMENTS = 1 << 15
"""Elements that numpy works on at a time: all temporaries of an operator stay in the cache."""


def evaluate_stored(
    operation: Operation, inputs: Sequence[tuple[str, Buffer]], start: int, dtype: str, out: memoryview
) -> None:
    """Fill `out` with the bytes of one block of a derived tensor (spec v1-derived §1).

    Args:
        operation: from `deltavcs.operators.parse.parse`, for as many inputs.
        inputs: arithmetic dtype and raw elements of each, of the same block; +0.0 follows an input that is
            shorter than the block.
        start: flat index of the block's first element.
        dtype: of the result.
        out: whole elements of `dtype`; overlaps no input.

    Raises:
        FormatError: `bad-payload` for inputs of parts of elements.
        InvalidInputError: `unsupported-dtype`; `bad-argument` if the thread flushes subnormals and numpy
            does the work.
    """
    if isinstance(operation, Linear) and run_native(operation.program, inputs, dtype, out):
        return
    itemsize = dtype_of(dtype).itemsize
    n = len(out) // itemsize
    raw = [(name, np.frombuffer(buffer, np.uint8)) for name, buffer in inputs]
    for at in range(0, n, _SLICE_ELEMENTS):
        count = min(_SLICE_ELEMENTS, n - at)
        blocks = [_elements(name, data, at, count) for name, data in raw]
        with np.errstate(all="ignore"):
            values = operation.run(blocks, start + at)
        out[at * itemsize : (at + count) * itemsize] = from_float64(values, dtype).data


def _elements(dtype: str, raw: npt.NDArray[np.uint8], at: int, count: int) -> Float64Array:
    itemsize = dtype_of(dtype).itemsize
    values = to_float64(raw[at * itemsize : (at + count) * itemsize], dtype)
    return values if values.size == count else np.concatenate([values, np.zeros(count - values.size)])
