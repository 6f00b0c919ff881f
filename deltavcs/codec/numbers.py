"""How a float's bit pattern becomes a small number, and that a token with raw bits (spec v1-codec §4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

N_CONTEXTS = 17
EXP_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a float keeps its parts.

    Attributes:
        width: bits of one element, 16 or 32.
        mantissa: mantissa bits; the exponent lies above them, the sign on top.
    """

    width: int
    mantissa: int

    @property
    def exponents(self) -> int:
        """Number of exponent values, a power of two."""
        return 1 << (self.width - 1 - self.mantissa)

    @property
    def n_tokens(self) -> int:
        """Size of the delta alphabet, the escape included."""
        return 4 * self.width

    @property
    def raw_planes(self) -> int:
        """EXP: whole bytes of sign and mantissa, stored as planes."""
        return (1 + self.mantissa) // 8

    @property
    def spare_bits(self) -> int:
        """EXP: bits of sign and mantissa above the raw planes."""
        return (1 + self.mantissa) % 8

    @property
    def word(self) -> np.dtype[Any]:
        """The unsigned little-endian type of one element."""
        return np.dtype("<u2" if self.width == 16 else "<u4")


LAYOUTS = {"BF16": Layout(16, 7), "F16": Layout(16, 10), "F32": Layout(32, 23)}


def order_map(bits: Array, layout: Layout) -> Array:
    """Map sign-magnitude patterns to two's complement, keeping their order; its own inverse (§4.1)."""
    mask = bits.dtype.type((1 << (layout.width - 1)) - 1)
    negative = (bits >> bits.dtype.type(layout.width - 1)).astype(bool)
    return np.where(negative, bits ^ mask, bits)


def differences(target: Array, base: Array, layout: Layout) -> Array:
    """Zigzagged difference of the order-mapped patterns modulo 2^width (§4.1)."""
    delta = order_map(target, layout) - order_map(base, layout)
    sign = np.where(delta >> delta.dtype.type(layout.width - 1), ~delta.dtype.type(0), delta.dtype.type(0))
    found: Array = (delta << delta.dtype.type(1)) ^ sign
    return found


def apply_differences(zigzag: Array, base: Array, layout: Layout) -> Array:
    """Undo `differences`: the target patterns."""
    one = zigzag.dtype.type(1)
    delta = (zigzag >> one) ^ (-(zigzag & one).astype(zigzag.dtype))
    return order_map(order_map(base, layout) + delta, layout)


def exponent_of(bits: Array, layout: Layout) -> Array:
    """The biased exponent of each pattern, int64."""
    found: Array = (bits >> bits.dtype.type(layout.mantissa)).astype(np.int64) & (layout.exponents - 1)
    return found


def contexts(base: Array, top: int, layout: Layout) -> Array:
    """Distance of the base's exponent below `top`, clipped to 0..16, int64 (§4.3)."""
    found: Array = np.clip(top - exponent_of(base, layout), 0, N_CONTEXTS - 1)
    return found


@dataclass(frozen=True, slots=True)
class Tokens:
    """One chunk as the coder sees it: three int64 arrays of one element per weight.

    Attributes:
        token: symbol of the alphabet.
        n_raw: raw bits that follow it.
        raw: those bits.
    """

    token: Array
    n_raw: Array
    raw: Array


def delta_raw_bits(layout: Layout) -> Array:
    """Raw bits of every delta token, int64; the escape is the last (§4.2)."""
    token = np.arange(layout.n_tokens)
    n_raw = np.where(token < 16, 0, token // 4 - 2)
    n_raw[-1] = layout.width
    return n_raw


def delta_tokens(zigzag: Array, layout: Layout) -> Tokens:
    """Token and raw bits of each zigzagged difference (§4.2)."""
    value = zigzag.astype(np.int64)
    # frexp is exact here: float64 holds any 32-bit integer.
    octave = np.maximum(np.frexp(value.astype(np.float64))[1].astype(np.int64) - 1, 2)
    token = np.where(value < 16, value, 4 * octave + ((value >> (octave - 2)) & 3))
    token = np.minimum(token, layout.n_tokens - 1)
    n_raw = delta_raw_bits(layout)[token]
    return Tokens(token, n_raw, value & ((1 << n_raw) - 1))


def delta_values(tokens: Tokens, layout: Layout) -> Array:
    """Undo `delta_tokens`."""
    token, n_raw = tokens.token, tokens.n_raw
    value = np.where(token < 16, token, ((4 | (token & 3)) << n_raw) | tokens.raw)
    return np.where(token == layout.n_tokens - 1, tokens.raw, value).astype(layout.word)


def exp_raw_bits(layout: Layout) -> Array:
    """Raw bits of every EXP token, int64; the escape is the last (§4.4)."""
    n_raw = np.full(EXP_TOKENS, layout.spare_bits)
    n_raw[-1] = layout.spare_bits + layout.width - 1 - layout.mantissa
    return n_raw


def exp_tokens(bits: Array, top: int, layout: Layout) -> Tokens:
    """Token and raw bits of each pattern; the low bytes of sign and mantissa are not in them (§4.4)."""
    distance = (top - exponent_of(bits, layout)) & (layout.exponents - 1)
    token = np.minimum(distance, EXP_TOKENS - 1)
    n_raw = exp_raw_bits(layout)[token]
    spare = sign_and_mantissa(bits, layout) >> (8 * layout.raw_planes)
    return Tokens(token, n_raw, ((distance << layout.spare_bits) | spare) & ((1 << n_raw) - 1))


def sign_and_mantissa(bits: Array, layout: Layout) -> Array:
    """Sign on top of the mantissa, int64."""
    value = bits.astype(np.int64)
    return ((value >> (layout.width - 1)) << layout.mantissa) | (value & ((1 << layout.mantissa) - 1))


def exp_values(tokens: Tokens, low: Array, top: int, layout: Layout) -> Array:
    """Undo `exp_tokens`; `low` holds the bits of the raw planes, int64."""
    spare = layout.spare_bits
    distance = np.where(tokens.token == EXP_TOKENS - 1, tokens.raw >> spare, tokens.token)
    both = ((tokens.raw & ((1 << spare) - 1)) << (8 * layout.raw_planes)) | low
    exponent = (top - distance) & (layout.exponents - 1)
    sign, mantissa = both >> layout.mantissa, both & ((1 << layout.mantissa) - 1)
    return ((sign << (layout.width - 1)) | (exponent << layout.mantissa) | mantissa).astype(layout.word)


def with_escapes(tokens: Tokens, usable: Array, escape: int, n_raw: int, raw: Array) -> Tokens:
    """Replace tokens that the tables lack by escapes.

    Args:
        tokens: of one chunk.
        usable: bool per element: its token has a frequency.
        escape: the escape token.
        n_raw: raw bits of an escape.
        raw: the raw bits each element has as an escape.
    """
    return Tokens(
        np.where(usable, tokens.token, escape),
        np.where(usable, tokens.n_raw, n_raw),
        np.where(usable, tokens.raw, raw),
    )
