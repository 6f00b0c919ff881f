"""Finite values that became Inf or NaN where a computed tensor was rounded to its dtype.

Only spans that hold Inf or NaN are looked at twice: once more in float64.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from deltavcs.checkpoint.view import Content
from deltavcs.objects.derivation import Derivation
from deltavcs.objects.domain import parse_domain
from deltavcs.objects.reader import BlobReader
from deltavcs.resources import SPAN_BYTES
from deltavcs.tensors.cast import to_float64
from deltavcs.tensors.dtypes import dtype_of
from deltavcs.tensors.finite import nonfinite

_BLOCK_ELEMENTS = 1 << 18


class OverflowWatch:
    """Counts values that overflowed, by tensor. Thread-safe; a span may be looked at more than once."""

    def __init__(self, blobs: BlobReader) -> None:
        self._blobs = blobs
        self._lock = threading.Lock()
        self._counts: dict[str, dict[int, int]] = {}

    def look(self, key: str, content: Content, start: int, data: memoryview) -> None:
        """Take whole elements of a tensor, from byte `start` on, as they were computed."""
        if content.blob is not None or not dtype_of(content.dtype).arithmetic:
            return
        found = nonfinite(data, content.dtype)
        if found is None:
            return
        first = start // dtype_of(content.dtype).itemsize
        count = int(np.count_nonzero(found & _was_finite(self._blobs, content, first, len(found))))
        with self._lock:
            seen = self._counts.setdefault(key, {})
            seen[start] = max(count, seen.get(start, 0))

    def look_again(self, key: str, content: Content) -> None:
        """Look at all of a tensor that is known to hold Inf or NaN, by computing it once more."""
        for start in range(0, content.size, SPAN_BYTES):
            data = memoryview(bytearray(min(SPAN_BYTES, content.size - start)))
            content.read_into(self._blobs, start, data)
            self.look(key, content, start, data)

    @property
    def counts(self) -> dict[str, int]:
        """How many finite values became Inf or NaN, by tensor; only where some did."""
        with self._lock:
            sums = {key: sum(spans.values()) for key, spans in sorted(self._counts.items())}
        return {key: n for key, n in sums.items() if n}


def _was_finite(blobs: BlobReader, content: Content, first: int, count: int) -> NDArray[np.bool_]:
    """Where what elements were computed from is finite: the operands, or the result before it is rounded."""
    finite = np.ones(count, np.bool_)
    for at in range(0, count, _BLOCK_ELEMENTS):
        n = min(_BLOCK_ELEMENTS, count - at)
        if content.derivation is not None:
            finite[at : at + n] = _finite_operands(blobs, content.derivation, first + at, n)
        elif content.computed is not None:
            exact = np.empty(n, np.float64)
            content.computed.read_into((first + at) * 8, exact.data.cast("B"), "F64")
            finite[at : at + n] = np.isfinite(exact)
    return finite


def _finite_operands(blobs: BlobReader, how: Derivation, first: int, count: int) -> NDArray[np.bool_]:
    finite = np.ones(count, np.bool_)
    for operand in how.inputs:
        tensor = parse_domain(blobs.stored(operand.blob).prefix.domain)
        assert tensor is not None
        itemsize = dtype_of(tensor[0]).itemsize
        have = max(0, min(operand.elements - first, count))
        raw = blobs.padded(operand.blob, first * itemsize, have * itemsize)
        finite[:have] &= np.isfinite(to_float64(raw, tensor[0]))
    return finite
