"""The tensors to merge as streams of float64 blocks, and exact statistics of them in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deltavcs.errors import ErrorKind, InternalError
from deltavcs.tensors.cast import Float64Array

BLOCK_ELEMENTS = 1 << 18
"""Elements of a block while statistics are taken. Fixed, so that sums do not depend on the caller."""

GATHER_ELEMENTS = 1 << 20
"""Candidates for an order statistic that are sorted in memory rather than counted once more."""

Block: TypeAlias = tuple[int, list[Float64Array]]


class TensorSource(Protocol):
    """One tensor of every input of a merge: the base first, where the method has one."""

    @property
    def name(self) -> str:
        """Name of the tensor; it keys DARE's masks."""
        ...

    @property
    def dtype(self) -> str:
        """Safetensors dtype of the result."""
        ...

    @property
    def n(self) -> int:
        """Number of elements."""
        ...

    @property
    def n_inputs(self) -> int:
        """Number of inputs, the base included."""
        ...

    def blocks(self, block_elements: int) -> Iterator[Block]:
        """Yield (start, one float64 array of shape (m,) per input) in order, from the first element.

        Every block has `block_elements` elements but the last, which has the rest. May be called again.
        """
        ...


def checked_blocks(source: TensorSource, block_elements: int = BLOCK_ELEMENTS) -> Iterator[Block]:
    """Yield the blocks of a source, holding it to its contract.

    Raises:
        InternalError: `bug` if a block is missing, misplaced or of another size.
    """
    expected = 0
    for start, arrays in source.blocks(block_elements):
        size = min(block_elements, source.n - expected)
        shapes = {array.shape for array in arrays}
        if start != expected or len(arrays) != source.n_inputs or shapes != {(size,)}:
            raise InternalError(f"the source of {source.name!r} broke its contract", kind=ErrorKind.BUG)
        yield start, arrays
        expected += size
    if expected != source.n:
        raise InternalError(f"the source of {source.name!r} ended early", kind=ErrorKind.BUG)


def delta_blocks(source: TensorSource) -> Iterator[list[Float64Array]]:
    """Yield δ_i = x_i − θ for the fine-tunes x_1 … of a source whose input 0 is the base θ."""
    for _, arrays in checked_blocks(source):
        with np.errstate(all="ignore"):
            deltas = [tuned - arrays[0] for tuned in arrays[1:]]
        yield deltas


def dot_products(source: TensorSource) -> tuple[float, float, float]:
    """Return (a·a, b·b, a·b) of a source with two inputs, in float64.

    Sums within a block of `BLOCK_ELEMENTS` by numpy's pairwise summation, sums of blocks exactly
    (`math.fsum`), so the result does not depend on how anyone cuts the tensor.
    """
    parts: tuple[list[float], list[float], list[float]] = ([], [], [])
    with np.errstate(all="ignore"):
        for _, (a, b) in checked_blocks(source):
            for part, product in zip(parts, (a * a, b * b, a * b), strict=True):
                part.append(float(np.sum(product)))
    aa, bb, ab = (math.fsum(part) if all(map(math.isfinite, part)) else math.nan for part in parts)
    return aa, bb, ab


def kth_largest_magnitudes(
    blocks: Callable[[], Iterator[list[Float64Array]]], ranks: Sequence[int]
) -> list[float]:
    """Return for each column the exact k-th largest magnitude, in bounded memory.

    The bits of |x| read as an integer are ordered as |x| is, so the order statistic is found digit by
    digit: each pass counts the next 16 bits of the elements that share the digits found so far; once few
    enough remain they are sorted instead. At most four passes, usually two. Magnitudes that are not
    finite count as zero.

    Args:
        blocks: starts a new pass over the columns; each block holds one float64 array per column.
        ranks: k for each column, 1 <= k <= number of its elements.

    Returns:
        One finite float64 >= 0 per column. At least k of its elements have that magnitude or more.
    """
    selectors = [_Selector(rank) for rank in ranks]
    while not all(selector.done for selector in selectors):
        for arrays in blocks():
            for selector, values in zip(selectors, arrays, strict=True):
                if not selector.done:
                    selector.feed(_magnitude_bits(values))
        for selector in selectors:
            if not selector.done:
                selector.end_pass()
    return [selector.value for selector in selectors]


def _magnitude_bits(values: Float64Array) -> NDArray[np.int64]:
    bits = np.abs(values).view(np.int64)
    return np.where(bits < 0x7FF << 52, bits, 0)


class _Selector:
    """Radix selection of one order statistic, fed in passes."""

    def __init__(self, rank: int) -> None:
        self.done = False
        self.value = 0.0
        self._rank = rank  # among the elements that share the prefix, counted from the largest
        self._prefix = 0
        self._shift = 64
        self._counts = np.zeros(1 << 16, dtype=np.int64)
        self._gathered: list[NDArray[np.int64]] | None = None

    def feed(self, bits: NDArray[np.int64]) -> None:
        if self._shift < 64:
            bits = bits[(bits >> self._shift) == self._prefix]
        if self._gathered is not None:
            self._gathered.append(bits)
        else:
            self._counts += np.bincount((bits >> (self._shift - 16)) & 0xFFFF, minlength=1 << 16)

    def end_pass(self) -> None:
        if self._gathered is not None:
            candidates = np.concatenate(self._gathered)
            at = candidates.size - self._rank
            self._finish(int(np.partition(candidates, at)[at]))
            return
        from_top = np.cumsum(self._counts[::-1])
        digit = 0xFFFF - int(np.searchsorted(from_top, self._rank))
        remaining = int(self._counts[digit])
        self._rank -= int(from_top[0xFFFF - digit]) - remaining
        self._prefix = (self._prefix << 16) | digit
        self._shift -= 16
        if self._shift == 0:
            self._finish(self._prefix)
        elif remaining <= GATHER_ELEMENTS:
            self._gathered = []
        self._counts[:] = 0

    def _finish(self, bits: int) -> None:
        self.done = True
        self.value = float(np.array([bits], dtype=np.int64).view(np.float64)[0])
        self._gathered = None
