"""DELTA: order-preserving differences, entropy-coded by the exponent of the base (spec v1-codec §4.1–4.3)."""

from __future__ import annotations

import numpy as np

from deltavcs.codec.api import Bytes, CodecId
from deltavcs.codec.codec_kernels import kernels
from deltavcs.codec.coded import CodedCodec, coded_layout
from deltavcs.codec.frequency_tables import Tables, coded_bits, normalise, share_tables, write_side
from deltavcs.codec.numbers import (
    N_CONTEXTS,
    Array,
    Layout,
    apply_differences,
    contexts,
    delta_raw_bits,
    delta_tokens,
    delta_values,
    differences,
    exponent_of,
    with_escapes,
)
from deltavcs.codec.payload import decode_tokens, read_coded, write_coded

_EMPTY = np.empty(0, np.uint8)


class DeltaCodec(CodedCodec):
    """Encoder and decoder of a tensor coded against a base. Thread-safe: it holds tables only."""

    codec = CodecId.DELTA

    def _table(self, base: Array) -> Array:
        found: Array = self.tables.table_of[contexts(base, self.tables.top, self.layout)]
        return found

    def _encode_numpy(self, target: Array, base: Array | None) -> bytes:
        assert base is not None
        table, zigzag = self._table(base), differences(target, base, self.layout)
        tokens = delta_tokens(zigzag, self.layout)
        usable = self.tables.freqs[table, tokens.token] > 0
        last = self.layout.n_tokens - 1
        coded = with_escapes(tokens, usable, last, self.layout.width, zigzag.astype(np.int64))
        return write_coded(coded, table, self.tables.freqs, _EMPTY)

    def _decode_numpy(self, payload: Bytes, base: Array | None, out: Array) -> None:
        assert base is not None
        n_raw = delta_raw_bits(self.layout)
        tokens = decode_tokens(read_coded(payload, 0), self._table(base), self.tables.freqs, n_raw)
        out[...] = apply_differences(delta_values(tokens, self.layout), base, self.layout)


def count_tokens(target: Array, base: Array, layout: Layout) -> Array:
    """Histogram of delta tokens by the base's exponent: [exponents, alphabet]."""
    native = kernels()
    if native is not None:
        counts = np.zeros((layout.exponents, layout.n_tokens), np.uint32)
        native[0].count(native[1], layout.width, layout.mantissa, target, base, counts)
        return counts
    exponent = exponent_of(base, layout)
    token = delta_tokens(differences(target, base, layout), layout).token
    size = layout.exponents * layout.n_tokens
    return np.bincount(exponent * layout.n_tokens + token, minlength=size).reshape(layout.exponents, -1)


def top_exponent(counts: Array, window: int) -> int:
    """The exponent to count down from: the lowest with the most weights in the `window` exponents up to it.

    Outliers and infinities thus do not spend the contexts or tokens that the bulk of the weights needs.

    Args:
        counts: weights by exponent.
        window: exponents that are told apart.
    """
    sums = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    last = np.arange(1, len(counts) + 1)
    return int(np.argmax(sums[last] - sums[np.maximum(last - window, 0)]))


def fold_contexts(counts: Array, top: int) -> Array:
    """Sum a histogram by exponent into one by context: [17, alphabet]."""
    context = np.clip(top - np.arange(len(counts)), 0, N_CONTEXTS - 1)
    folded = np.zeros((N_CONTEXTS, counts.shape[1]), np.int64)
    np.add.at(folded, context, counts)
    return folded


def delta_tables(counts: Array, layout: Layout, *, narrow: bool) -> tuple[Tables, float]:
    """Build the tables of a tensor from its histogram (see `count_tokens`), by numpy.

    Returns:
        The tables, and the bits that the counted weights take with them.
    """
    top = top_exponent(counts.sum(axis=1), N_CONTEXTS - 1)
    by_context = fold_contexts(counts, top)
    table_of = share_tables(by_context)
    by_table = np.zeros((int(table_of[-1]) + 1, layout.n_tokens), np.int64)
    np.add.at(by_table, table_of, by_context)
    n_raw = delta_raw_bits(layout)
    freqs = normalise(by_table, n_raw)
    return Tables(top, narrow, table_of, freqs), coded_bits(by_table, freqs, n_raw)


def tune(
    dtype: str, pairs: list[tuple[Array, Array]], *, narrow: bool, level: int
) -> tuple[DeltaCodec, float]:
    """Return the codec of a tensor with the best tables for some of its weights.

    Args:
        pairs: target and base, patterns of the coded layout.
        narrow: as in `Tables`.
        level: zstd level of chunks that are not entropy-coded.

    Returns:
        The codec, and the bits that these weights take with it.
    """
    layout, native = coded_layout(dtype, narrow=narrow), kernels()
    if native is not None:
        coder, side, bits = native[0].tune(native[1], layout.width, layout.mantissa, narrow, tuple(pairs))
        return DeltaCodec(dtype, side, narrow=narrow, level=level, coder=coder), bits
    counts = np.zeros((layout.exponents, layout.n_tokens), np.int64)
    for target, base in pairs:
        counts += count_tokens(target, base, layout)
    tables, bits = delta_tables(counts, layout, narrow=narrow)
    return DeltaCodec(dtype, write_side(tables), narrow=narrow, level=level, tables=tables), bits
