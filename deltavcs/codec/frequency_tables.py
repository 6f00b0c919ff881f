"""Frequency tables: which contexts share one, their 11-bit frequencies, their bytes (spec v1-codec §6)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from deltavcs.codec.api import MAX_SIDE_BYTES, bad_side
from deltavcs.codec.codec_kernels import kernels
from deltavcs.codec.numbers import N_CONTEXTS, Array
from deltavcs.codec.rans import PROB_BITS, PROB_SCALE

SIDE_FORMAT = 1
FLAG_NARROW = 1
_HEADER = struct.Struct("<BBHH")
_FIRST_GUESS = 256
_BITS_PER_FREQUENCY = 5.0
_TABLE_BITS = 24.0
# What a table must save besides, by counted weight: tables compete for a decoder's first-level cache.
_TABLE_BITS_PER_WEIGHT = 1 / 1024


@dataclass(frozen=True, slots=True)
class Tables:
    """All that the chunks of a tensor share.

    Attributes:
        top: the exponent that contexts (DELTA) or tokens (EXP) count down from.
        narrow: F32 whose low 16 bits are zero: chunks hold the upper halves.
        table_of: the table of each context, 17 × int64, ascending from 0.
        freqs: [tables, alphabet] int64; rows sum to 2048; the last token's is at least 1.
    """

    top: int
    narrow: bool
    table_of: Array
    freqs: Array


def normalise(counts: Array, n_raw: Array) -> Array:
    """Turn counts into frequencies.

    Tokens too rare to deserve 1/2048 are left to the escape.

    Args:
        counts: [tables, alphabet], int64.
        n_raw: raw bits of every token.
    """
    total = counts.sum(axis=1, keepdims=True).astype(np.float64)
    # A slot of 2048 costs everybody else total/2048·log2(e) bits; an escape costs its raw bits.
    kept = counts * (n_raw[-1] - n_raw) > total * (np.log2(np.e) / PROB_SCALE) + 1
    kept[:, -1] = True
    counts = np.where(kept, np.maximum(counts, 1), 0).astype(np.float64)
    share = counts / counts.sum(axis=1, keepdims=True)
    freqs = _rounded(share, kept, np.full((len(counts), 1), float(PROB_SCALE)))
    low, high = np.zeros((len(counts), 1)), np.full((len(counts), 1), 2.0 * PROB_SCALE)
    for _ in range(14):
        scale = (low + high) / 2
        freqs = _rounded(share, kept, scale)
        over = freqs.sum(axis=1, keepdims=True) > PROB_SCALE
        low, high = np.where(over, low, scale), np.where(over, scale, high)
    freqs = _rounded(share, kept, low)
    rows = np.arange(len(counts))
    freqs[rows, freqs.argmax(axis=1)] += PROB_SCALE - freqs.sum(axis=1)
    return freqs


def _rounded(share: Array, kept: Array, scale: Array) -> Array:
    return np.where(kept, np.maximum(np.floor(share * scale + 0.5), 1), 0).astype(np.int64)


def coded_bits(counts: Array, freqs: Array, n_raw: Array) -> float:
    """Bits that `counts` take with `freqs`, raw bits included; shapes as in `normalise`."""
    cost = PROB_BITS - np.log2(np.maximum(freqs, 1)) + n_raw
    escape = cost[:, -1:] + np.zeros_like(cost)
    return float((counts * np.where(freqs > 0, cost, escape)).sum())


def share_tables(counts: Array) -> Array:
    """Decide which neighbouring contexts share a table, so that data and tables are smallest together.

    Args:
        counts: [17, alphabet], int64.

    Returns:
        The table of each context, 17 × int64.
    """
    used = np.flatnonzero(counts.any(axis=1))
    if used.size < 2:
        return np.zeros(N_CONTEXTS, np.int64)
    first_of_table = used[_best_cuts(counts[used])]
    starts = np.zeros(N_CONTEXTS, np.int64)
    starts[first_of_table[1:]] = 1
    return np.cumsum(starts)


def _best_cuts(counts: Array) -> Array:
    """Start of each run in the cheapest partition of the rows into runs."""
    n = len(counts)
    sums = np.vstack([np.zeros((1, counts.shape[1])), np.cumsum(counts, axis=0)])
    start, stop = np.triu_indices(n + 1, 1)
    merged = sums[stop] - sums[start]
    total = merged.sum(axis=1)
    bits = total * np.log2(total) - (merged * np.log2(np.maximum(merged, 1))).sum(axis=1)
    # A token seen less than once in 2048 usually gets no frequency of its own.
    bits += _TABLE_BITS + _TABLE_BITS_PER_WEIGHT * counts.sum()
    bits += _BITS_PER_FREQUENCY * (merged * 8 * PROB_SCALE > total[:, None]).sum(axis=1)
    cost = np.full((n + 1, n + 1), np.inf)
    cost[start, stop] = bits
    best, previous = np.zeros(n + 1), np.zeros(n + 1, np.int64)
    for end in range(1, n + 1):
        trials = best[:end] + cost[:end, end]
        previous[end] = int(np.argmin(trials))
        best[end] = trials[previous[end]]
    cuts = [n]
    while cuts[-1]:
        cuts.append(int(previous[cuts[-1]]))
    return np.array(cuts[:0:-1], np.int64)


def write_side(tables: Tables) -> bytes:
    """Return the side (spec v1-codec §6.2)."""
    starts = np.flatnonzero(np.diff(tables.table_of))
    mask = int(np.bitwise_or.reduce(1 << starts)) if starts.size else 0
    head = _HEADER.pack(SIDE_FORMAT, FLAG_NARROW * tables.narrow, tables.top, mask)
    native = kernels()
    if native is not None:
        packed: bytes = native[0].write_tables(tables.freqs.astype("<u2"), *tables.freqs.shape)
        return head + packed
    bits: list[str] = []
    for row in tables.freqs:
        bits.append(f"{int(row[-1]) - 1:0{PROB_BITS}b}"[::-1])
        bits.extend(_row_bits([int(f) for f in row[:-1]], PROB_SCALE - int(row[-1])))
    text = "".join(bits)
    packed = int(text[::-1], 2).to_bytes((len(text) + 7) // 8, "little")
    return head + packed


def _row_bits(freqs: list[int], left: int) -> list[str]:
    bits: list[str] = []
    guess = _FIRST_GUESS
    for freq in freqs:
        if left == 0:
            break
        n_low = max(0, guess.bit_length() - 2)
        value = 2 * (freq - guess) if freq >= guess else 2 * (guess - freq) - 1
        low = f"{value & ((1 << n_low) - 1):0{n_low}b}"[::-1] if n_low else ""
        bits.append("1" * (value >> n_low) + "0" + low)
        guess = freq
        left -= freq
    return bits


def read_side(side: bytes, n_tokens: int, exponents: int) -> Tables:
    """Return the tables in a side.

    Args:
        side: at most `MAX_SIDE_BYTES`.
        n_tokens: size of the alphabet.
        exponents: number of exponent values.

    Raises:
        FormatError: `bad-payload` if anything in it does not follow spec v1-codec §6.2.
    """
    if not _HEADER.size <= len(side) <= MAX_SIDE_BYTES:
        raise bad_side(f"a side of {len(side)} bytes")
    version, flags, top, mask = _HEADER.unpack_from(side)
    if version != SIDE_FORMAT or flags & ~FLAG_NARROW or top >= exponents:
        raise bad_side(f"version {version}, flags {flags}, top exponent {top}")
    table_of = np.concatenate([[0], np.cumsum((mask >> np.arange(N_CONTEXTS - 1)) & 1)]).astype(np.int64)
    freqs = _read_tables(side[_HEADER.size :], int(table_of[-1]) + 1, n_tokens)
    return Tables(top, bool(flags & FLAG_NARROW), table_of, freqs)


def _read_tables(data: bytes, n_tables: int, n_tokens: int) -> Array:
    native = kernels()
    if native is not None:
        try:
            found = native[0].read_tables(data, n_tables, n_tokens)
        except ValueError as exc:
            raise bad_side(str(exc)) from exc
        return np.frombuffer(found, "<u2").reshape(n_tables, n_tokens).astype(np.int64)
    reader = _Bits(data)
    freqs = np.array([reader.row(n_tokens) for _ in range(n_tables)], np.int64)
    reader.finish()
    return freqs


class _Bits:
    """Bits of the table stream, lowest bit of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._text = f"{int.from_bytes(data, 'little'):0{8 * len(data)}b}"[::-1] if data else ""
        self._at = 0

    def _take(self, n_bits: int) -> int:
        found = self._text[self._at : self._at + n_bits]
        if len(found) != n_bits:
            raise bad_side("the tables are cut short")
        self._at += n_bits
        return int(found[::-1], 2) if n_bits else 0

    def _rice(self, n_low: int) -> int:
        zero = self._text.find("0", self._at)
        if zero < 0:
            raise bad_side("the tables are cut short")
        quotient, self._at = zero - self._at, zero + 1
        return (quotient << n_low) | self._take(n_low)

    def row(self, n_tokens: int) -> list[int]:
        escape = self._take(PROB_BITS) + 1
        freqs, left, guess = [0] * n_tokens, PROB_SCALE - escape, _FIRST_GUESS
        freqs[-1] = escape
        for token in range(n_tokens - 1):
            if left == 0:
                break
            value = self._rice(max(0, guess.bit_length() - 2))
            guess += -(value + 1) // 2 if value & 1 else value // 2
            if not 0 <= guess <= left:
                raise bad_side("a frequency out of range")
            freqs[token] = guess
            left -= guess
        if left:
            raise bad_side("frequencies do not add up to 2048")
        return freqs

    def finish(self) -> None:
        if len(self._text) - self._at >= 8 or "1" in self._text[self._at :]:
            raise bad_side("bytes after the tables")
