"""The random masks of DARE: counter-based, integers only, the same on every device (spec v1-derived §5).

Element `e` of the mask with key `k` is kept when the upper 32 bits of output number `e` of SplitMix64
seeded with `k` are below `keep`:

    z  = k + (e + 1)·G            (mod 2^64; G = 0x9E3779B97F4A7C15)
    z  = (z ⊕ (z >> 30))·C1       (C1 = 0xBF58476D1CE4E5B9)
    z  = (z ⊕ (z >> 27))·C2       (C2 = 0x94D049BB133111EB)
    z  = z ⊕ (z >> 31)
    kept(e)  ⇔  (z >> 32) < keep,   keep ∈ [0, 2^32], so P(kept) = keep / 2^32

The output number depends on the counter alone, so any block of any tensor can be computed by itself.

Reference: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014; the mixing
function is Stafford's variant 13.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

GAMMA = 0x9E3779B97F4A7C15
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB
KEEP_ALL = 1 << 32
"""The value of `keep` that keeps every element."""

KEY_DOMAIN = b"deltavcs dare v1\0"
MASK_64 = (1 << 64) - 1

_BLOCK_ELEMENTS = 1 << 14


def mask_key(seed: int, tensor: str, stream: int) -> int:
    """Return the 64-bit key of one mask.

    The first eight bytes, little-endian, of SHA-256 over `KEY_DOMAIN`, the seed (8 bytes, little-endian),
    the stream (4 bytes, little-endian) and the tensor's name in UTF-8.

    Args:
        seed: 0 <= seed < 2^64.
        tensor: the tensor's name, encodable as UTF-8.
        stream: which fine-tune of the merge, counted from 0; 0 <= stream < 2^32.
    """
    digest = hashlib.sha256(
        KEY_DOMAIN + seed.to_bytes(8, "little") + stream.to_bytes(4, "little") + tensor.encode()
    ).digest()
    return int.from_bytes(digest[:8], "little")


def random_words(key: int, start: int, count: int) -> NDArray[np.uint64]:
    """Return outputs `start` … `start + count − 1` of SplitMix64 seeded with `key`.

    Returns:
        uint64, shape (count,).
    """
    out = np.arange(count, dtype=np.uint64)
    first = np.uint64((key + (start + 1) * GAMMA) & MASK_64)
    scratch = np.empty(min(count, _BLOCK_ELEMENTS), dtype=np.uint64)
    for at in range(0, count, _BLOCK_ELEMENTS):
        z = out[at : at + _BLOCK_ELEMENTS]
        shifted = scratch[: z.size]
        np.multiply(z, np.uint64(GAMMA), out=z)
        np.add(z, first, out=z)
        for shift, factor in ((30, MIX_1), (27, MIX_2)):
            np.right_shift(z, np.uint64(shift), out=shifted)
            np.bitwise_xor(z, shifted, out=z)
            np.multiply(z, np.uint64(factor), out=z)
        np.right_shift(z, np.uint64(31), out=shifted)
        np.bitwise_xor(z, shifted, out=z)
    return out


def keep_mask(key: int, keep: int, start: int, count: int) -> NDArray[np.bool_]:
    """Return which of the elements `start` … `start + count − 1` are kept.

    Args:
        key: of the mask, from `mask_key`.
        keep: kept elements of every 2^32; 0 <= keep <= 2^32.
        start: flat index of the first element.
        count: number of elements.

    Returns:
        bool, shape (count,).
    """
    words = random_words(key, start, count)
    np.right_shift(words, np.uint64(32), out=words)
    kept: NDArray[np.bool_] = words < np.uint64(keep)
    return kept
