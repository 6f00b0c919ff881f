"""Exact widening to float64 and a single rounding back: the arithmetic of stored dtypes (spec v1-derived §2).

`to_float64` is exact for every arithmetic dtype. `from_float64` rounds once, to nearest, ties to even,
straight from float64 to the target. Going through float32, as `torch.Tensor.to(torch.bfloat16)` does,
rounds twice and is wrong for values next to a midpoint.

The rounding works on bit patterns with integer instructions, so it does not depend on the floating-point
mode of the thread. With `p` fraction bits kept of 52, `d = 52 − p` dropped and `a` the bits of |x| read as
an integer,

    r = (a + 2^(d−1) − 1 + bit_d(a)) >> d,    encoded = r − ((1023 − bias) << p)

whenever the result is a normal number: a carry out of the fraction moves into the exponent by itself.
Zeros, subnormal results, overflow and NaN take a second path, on just those elements.

The native kernels (`deltavcs.tensors.tensor_kernels`) give the same bits; what is here is the reference, and
what works without them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, FormatError, InvalidInputError
from deltavcs.tensors import tensor_kernels
from deltavcs.tensors.dtypes import dtype_of

Float64Array: TypeAlias = NDArray[np.float64]
ByteArray: TypeAlias = NDArray[np.uint8]
Buffer: TypeAlias = bytes | bytearray | memoryview | NDArray[Any]

_BLOCK_ELEMENTS = 1 << 14
"""Elements rounded at a time: the scratch arrays stay in the second-level cache."""

_ABS_MASK = np.uint64((1 << 63) - 1)
_INF_BITS = np.uint64(0x7FF << 52)
_FRACTION_MASK = np.uint64((1 << 52) - 1)
_HIDDEN_BIT = np.uint64(1 << 52)
_ONE = np.uint64(1)


@dataclass(frozen=True, slots=True)
class FloatLayout:
    """A binary floating-point format: one sign bit, then the exponent, then the fraction.

    Attributes:
        exponent_bits: width of the biased exponent.
        fraction_bits: width of the fraction.
        bias: of the exponent.
        overflow: pattern, without sign, of every finite value too large to hold: infinity where the
            format has one, else its NaN.
        nan: the one pattern every NaN is written as: positive and quiet.
    """

    exponent_bits: int
    fraction_bits: int
    bias: int
    overflow: int
    nan: int

    @property
    def bits(self) -> int:
        """Width of one element."""
        return 1 + self.exponent_bits + self.fraction_bits


LAYOUTS: dict[str, FloatLayout] = {
    "F64": FloatLayout(11, 52, 1023, 0x7FF0_0000_0000_0000, 0x7FF8_0000_0000_0000),
    "F32": FloatLayout(8, 23, 127, 0x7F80_0000, 0x7FC0_0000),
    "F16": FloatLayout(5, 10, 15, 0x7C00, 0x7E00),
    "BF16": FloatLayout(8, 7, 127, 0x7F80, 0x7FC0),
    "F8_E5M2": FloatLayout(5, 2, 15, 0x7C, 0x7E),
    "F8_E4M3": FloatLayout(4, 3, 7, 0x7F, 0x7F),
}


def layout_of(dtype: str) -> FloatLayout:
    """Return the layout of an arithmetic dtype.

    Raises:
        FormatError: `unsupported-dtype` if safetensors has no such dtype.
        InvalidInputError: `unsupported-dtype` if its tensors can only be copied.
    """
    found = LAYOUTS.get(dtype_of(dtype).name)
    if found is None:
        raise InvalidInputError(
            f"no arithmetic on {dtype} tensors",
            kind=ErrorKind.UNSUPPORTED_DTYPE,
            advice=Advice.ARITHMETIC_DTYPES,
            facts={"dtypes": ", ".join(LAYOUTS)},
        )
    return found


def require_subnormals() -> None:
    """Refuse a thread whose floating-point unit treats subnormal numbers as zero.

    Raises:
        InvalidInputError: `bad-argument`; results would not be those of IEEE 754.
    """
    tiny = np.array([1], np.uint32).view(np.float32)
    smallest = np.array([1 << 52], np.uint64).view(np.float64)
    if tiny.astype(np.float64)[0] == 0.0 or (smallest * 0.5)[0] == 0.0:
        raise InvalidInputError(
            "this thread flushes subnormal numbers to zero",
            kind=ErrorKind.BAD_ARGUMENT,
            advice=Advice.KEEP_SUBNORMALS,
        )


def to_float64(raw: Buffer, dtype: str) -> Float64Array:
    """Widen raw little-endian elements to float64. Every value of every arithmetic dtype is exact.

    Args:
        raw: the elements; its length in bytes is a multiple of the element size.
        dtype: safetensors name of an arithmetic dtype.

    Returns:
        A fresh array, float64, shape (n,).

    Raises:
        FormatError: `bad-payload` if `raw` does not hold whole elements, `unsupported-dtype`.
        InvalidInputError: `unsupported-dtype` for dtypes without arithmetic, `bad-argument` if the
            thread flushes subnormals.
    """
    layout = layout_of(dtype)
    require_subnormals()
    data = np.frombuffer(raw, dtype=np.uint8)
    if data.size % (layout.bits // 8):
        raise FormatError(f"{data.size} bytes are not whole {dtype} elements", kind=ErrorKind.BAD_PAYLOAD)
    found = tensor_kernels.kernels()
    if found is None:
        return _widen(data, dtype)
    module, level = found
    out = np.empty(data.size // (layout.bits // 8), np.float64)
    module.widen(level, tensor_kernels.CODES[dtype], data, out)
    return out


def _widen(data: ByteArray, dtype: str) -> Float64Array:
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes quiet, which is what we want
        if dtype == "F64":
            return data.view("<f8").astype(np.float64)
        if dtype == "F32":
            return data.view("<f4").astype(np.float64)
        if dtype == "F16":
            return data.view("<f2").astype(np.float64)
        if dtype == "BF16":
            widened = data.view("<u2").astype(np.uint32)
            np.left_shift(widened, np.uint32(16), out=widened)
            return widened.view(np.float32).astype(np.float64)
    return float8_table(dtype)[data]


@cache
def float8_table(dtype: str) -> Float64Array:
    """Return the 256 values of an 8-bit float, float64, shape (256,), read-only."""
    layout = LAYOUTS[dtype]
    fraction_of_one = 1 << layout.fraction_bits
    values = np.empty(256, dtype=np.float64)
    for pattern in range(256):
        magnitude = pattern & 0x7F
        exponent, fraction = divmod(magnitude, fraction_of_one)
        if magnitude > layout.overflow or magnitude == layout.nan:
            value = float("nan")
        elif magnitude == layout.overflow:
            value = float("inf")
        elif exponent == 0:
            value = fraction * 2.0 ** (1 - layout.bias - layout.fraction_bits)
        else:
            value = (fraction_of_one + fraction) * 2.0 ** (exponent - layout.bias - layout.fraction_bits)
        values[pattern] = -value if pattern & 0x80 else value
    values.setflags(write=False)
    return values


def from_float64(values: Float64Array, dtype: str) -> ByteArray:
    """Round float64 values once, to nearest, ties to even, and return their little-endian bytes.

    Overflow gives an infinity of the same sign, or, in F8_E4M3 which has none, the NaN with the sign
    kept (0x7F, 0xFF). Subnormal results are exact to the rounding and −0 stays −0. Every NaN becomes the
    dtype's positive quiet NaN (`FloatLayout.nan`), since IEEE 754 does not fix payloads.

    Args:
        values: float64, any shape, read in row-major order.
        dtype: safetensors name of an arithmetic dtype.

    Returns:
        A fresh array, uint8, shape (values.size * itemsize,).

    Raises:
        FormatError: `unsupported-dtype` for an unknown dtype.
        InvalidInputError: `unsupported-dtype` for a dtype without arithmetic.
    """
    layout = layout_of(dtype)
    flat = np.ascontiguousarray(values, dtype=np.float64).reshape(-1)
    found = tensor_kernels.kernels()
    if found is None:
        return _round(flat.view(np.uint64), layout)
    module, level = found
    rounded = np.empty(flat.size * (layout.bits // 8), np.uint8)
    module.round(level, tensor_kernels.CODES[dtype], flat, rounded)
    return rounded


def _round(bits: NDArray[np.uint64], layout: FloatLayout) -> ByteArray:
    out = np.empty(bits.size, dtype=f"<u{layout.bits // 8}")
    if layout.bits == 64:
        np.copyto(out, bits)
        out[np.isnan(bits.view(np.float64))] = layout.nan
        return out.view(np.uint8)
    scratch = (np.empty(_BLOCK_ELEMENTS, np.uint64), np.empty(_BLOCK_ELEMENTS, np.uint64))
    for start in range(0, bits.size, _BLOCK_ELEMENTS):
        block = bits[start : start + _BLOCK_ELEMENTS]
        _round_block(block, layout, out[start : start + block.size], scratch)
    return out.view(np.uint8)


def _round_block(
    bits: NDArray[np.uint64],
    layout: FloatLayout,
    out: NDArray[Any],
    scratch: tuple[NDArray[np.uint64], NDArray[np.uint64]],
) -> None:
    """Round one block as if every result were normal, then mend the elements where it is not."""
    magnitude, rounded = scratch[0][: bits.size], scratch[1][: bits.size]
    dropped = 52 - layout.fraction_bits
    rebias = (1023 - layout.bias) << layout.fraction_bits
    np.bitwise_and(bits, _ABS_MASK, out=magnitude)
    np.right_shift(magnitude, np.uint64(dropped), out=rounded)
    np.bitwise_and(rounded, _ONE, out=rounded)
    np.add(rounded, magnitude, out=rounded)
    np.add(rounded, np.uint64((1 << (dropped - 1)) - 1), out=rounded)
    np.right_shift(rounded, np.uint64(dropped), out=rounded)
    least = np.uint64(int(_normal_floor(layout)) << 52)
    limit = np.uint64(rebias + layout.overflow)
    if magnitude.min() < least or rounded.max() >= limit:
        zero = magnitude == 0
        rounded[zero] = rebias
        odd = np.flatnonzero(((magnitude < least) & ~zero) | (rounded >= limit))
        rounded[odd] = _round_unusual(magnitude[odd], rounded[odd], layout)
        nan = odd[magnitude[odd] > _INF_BITS]
    else:
        nan = None
    np.subtract(rounded, np.uint64(rebias), out=rounded)
    np.right_shift(bits, np.uint64(63), out=magnitude)
    np.left_shift(magnitude, np.uint64(layout.bits - 1), out=magnitude)
    np.bitwise_or(rounded, magnitude, out=rounded)
    if nan is not None and nan.size:
        rounded[nan] = layout.nan
    np.copyto(out, rounded, casting="unsafe")


def _normal_floor(layout: FloatLayout) -> int:
    """Biased float64 exponent of the target's smallest normal number."""
    return 1024 - layout.bias


def _round_unusual(
    magnitude: NDArray[np.uint64], rounded: NDArray[np.uint64], layout: FloatLayout
) -> NDArray[np.uint64]:
    """Rounded patterns, exponent not yet rebiased, of elements that overflow or fall below normal."""
    rebias = np.uint64((1023 - layout.bias) << layout.fraction_bits)
    overflow = np.uint64(layout.overflow) + rebias
    exponent = magnitude >> np.uint64(52)
    floor = np.uint64(_normal_floor(layout))
    # Below: shift the full significand by the extra distance to the subnormal grid, at most 63 bits.
    distance = np.where(exponent < floor, floor - np.minimum(exponent, floor), np.uint64(0))
    shift = np.minimum(distance + np.uint64(52 - layout.fraction_bits), np.uint64(63))
    significand = (magnitude & _FRACTION_MASK) | np.where(exponent > 0, _HIDDEN_BIT, np.uint64(0))
    half = (_ONE << (shift - _ONE)) - _ONE
    below = (significand + half + ((significand >> shift) & _ONE)) >> shift
    return np.where(exponent < floor, below + rebias, np.minimum(rounded, overflow))
