"""Counts, squares and products over stored tensors, from their raw bytes.

Sums are of float64 terms and have one order, so that every level of the kernels gives the same bits. A block
of 4,096 terms is read as rows of 64 lanes; each lane is summed from the first row to the last; then the upper
half of the lanes is added to the lower half until one is left. Sums of blocks are added in turn. A last block
that is not full behaves as if zeros followed. No term goes through BLAS, whose order and threads are its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deltavcs.errors import ErrorKind, FormatError
from deltavcs.tensors import tensor_kernels
from deltavcs.tensors.cast import Buffer, Float64Array, to_float64
from deltavcs.tensors.dtypes import dtype_of

_LANES = 64
_BLOCK = 4096
_PIECE = 8 * _BLOCK
"""Terms that numpy works on at a time: whole blocks, all in the cache."""

_WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


@dataclass(frozen=True, slots=True)
class PairSums:
    """Sums over two tensors a and b.

    Attributes:
        changed: elements that differ in any bit.
        move: Σ(b−a)² over those elements.
        aa: Σa².
        bb: Σb².
        ab: Σab.
    """

    changed: int
    move: float
    aa: float
    bb: float
    ab: float


@dataclass(frozen=True, slots=True)
class TripleSums:
    """Sums over a target t, a fine-tune f and a source s.

    Attributes:
        base: Σs².
        drift: Σ(t−s)².
        delta: Σ(f−s)².
        dot: Σ(f−s)(t−s).
    """

    base: float
    drift: float
    delta: float
    dot: float


def difference(dtype: str, a: Buffer, b: Buffer) -> tuple[int, float]:
    """Count the elements that differ in any bit, and sum (a−b)² over them.

    Elements of equal bits add nothing, infinities and NaNs too. The sum is 0 without arithmetic.

    Raises:
        FormatError: `bad-payload` if the buffers differ in length or do not hold whole elements,
            `unsupported-dtype`.
    """
    kind = dtype_of(dtype)
    x, y = _same_length(kind.itemsize, a, b)
    found = tensor_kernels.kernels()
    if found is None:
        changed = int(np.count_nonzero(_unequal(kind.itemsize, x, y)))
        return changed, _squares(dtype, x, y) if changed and kind.arithmetic else 0.0
    module, level = found
    if not kind.arithmetic:
        return int(module.count(level, kind.itemsize, x, y)), 0.0
    changed, squares = module.difference(level, tensor_kernels.CODES[dtype], x, y)
    return int(changed), float(squares)


def pair_sums(dtype: str, a: Buffer, b: Buffer) -> PairSums:
    """Sum squares and products of two tensors of one arithmetic dtype.

    Raises:
        FormatError: as `difference`.
    """
    itemsize = dtype_of(dtype).itemsize
    x, y = _same_length(itemsize, a, b)
    found = tensor_kernels.kernels()
    if found is not None and dtype in tensor_kernels.CODES:
        module, level = found
        return PairSums(*module.pair(level, tensor_kernels.CODES[dtype], x, y))
    changed, move = difference(dtype, x, y)
    aa = bb = ab = 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        for at in range(0, x.size, _PIECE * itemsize):
            p, q = (to_float64(v[at : at + _PIECE * itemsize], dtype) for v in (x, y))
            aa, bb, ab = _add(aa, p * p), _add(bb, q * q), _add(ab, p * q)
    return PairSums(changed, move, aa, bb, ab)


def triple_sums(
    target: tuple[str, Buffer], tuned: tuple[str, Buffer], source: tuple[str, Buffer]
) -> TripleSums:
    """Sum squares and products of three tensors, each a dtype and as many elements of it.

    Raises:
        FormatError: as `difference`.
        InvalidInputError: `unsupported-dtype` for a dtype without arithmetic.
    """
    inputs = [(dtype, np.frombuffer(raw, np.uint8)) for dtype, raw in (target, tuned, source)]
    counts = {divmod(raw.size, dtype_of(dtype).itemsize) for dtype, raw in inputs}
    if len(counts) != 1 or any(rest for _, rest in counts):
        raise FormatError("the tensors to be compared differ in length", kind=ErrorKind.BAD_PAYLOAD)
    found = tensor_kernels.kernels()
    if found is not None and all(dtype in tensor_kernels.CODES for dtype, _ in inputs):
        module, level = found
        args = [x for dtype, raw in inputs for x in (tensor_kernels.CODES[dtype], raw)]
        return TripleSums(*module.geometry(level, *args))
    ((n, _),) = counts
    base = drift = delta = dot = 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        for at in range(0, n, _PIECE):
            t, f, s = (_piece(dtype, raw, at) for dtype, raw in inputs)
            apart, change = t - s, f - s
            base, drift = _add(base, s * s), _add(drift, apart * apart)
            delta, dot = _add(delta, change * change), _add(dot, change * apart)
    return TripleSums(base, drift, delta, dot)


def _piece(dtype: str, raw: npt.NDArray[np.uint8], at: int) -> Float64Array:
    itemsize = dtype_of(dtype).itemsize
    return to_float64(raw[at * itemsize : (at + _PIECE) * itemsize], dtype)


def _same_length(itemsize: int, a: Buffer, b: Buffer) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    x, y = np.frombuffer(a, np.uint8), np.frombuffer(b, np.uint8)
    if x.size != y.size or x.size % itemsize:
        raise FormatError(
            f"{x.size} and {y.size} bytes are not as many elements of {itemsize} bytes",
            kind=ErrorKind.BAD_PAYLOAD,
        )
    return x, y


def _unequal(itemsize: int, x: npt.NDArray[np.uint8], y: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    words = _WORDS[itemsize]
    unequal: npt.NDArray[np.bool_] = x.view(words) != y.view(words)
    return unequal


def _squares(dtype: str, x: npt.NDArray[np.uint8], y: npt.NDArray[np.uint8]) -> float:
    itemsize = dtype_of(dtype).itemsize
    step = _PIECE * itemsize
    total = 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        for at in range(0, x.size, step):
            a, b = x[at : at + step], y[at : at + step]
            delta = to_float64(a, dtype) - to_float64(b, dtype)
            delta[~_unequal(itemsize, a, b)] = 0.0
            total = _add(total, delta * delta)
    return total


def _add(total: float, terms: Float64Array) -> float:
    """Add terms to a sum in the order that the module states; only the last call may end within a block."""
    missing = -terms.size % _BLOCK
    if missing:
        terms = np.concatenate([terms, np.zeros(missing)])
    # numpy reduces an axis that is not the last one row by row, in order.
    lanes = np.add.reduce(terms.reshape(-1, _BLOCK // _LANES, _LANES), axis=1)
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    for block in lanes[:, 0].tolist():
        total += block
    return total
