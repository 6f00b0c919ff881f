"""EXP: exponents entropy-coded, sign and mantissa raw, for tensors without a base (spec v1-codec §4.4)."""

from __future__ import annotations

import numpy as np

from deltavcs.codec.api import Bytes, CodecId
from deltavcs.codec.codec_kernels import kernels
from deltavcs.codec.coded import CodedCodec
from deltavcs.codec.delta import top_exponent
from deltavcs.codec.frequency_tables import Tables, coded_bits, normalise
from deltavcs.codec.numbers import (
    EXP_TOKENS,
    N_CONTEXTS,
    Array,
    Layout,
    exp_raw_bits,
    exp_tokens,
    exp_values,
    exponent_of,
    sign_and_mantissa,
    with_escapes,
)
from deltavcs.codec.payload import decode_tokens, read_coded, write_coded


class ExpCodec(CodedCodec):
    """Encoder and decoder of a tensor coded alone. Thread-safe: it holds tables only."""

    codec = CodecId.EXP

    def _encode_numpy(self, target: Array, base: Array | None) -> bytes:
        layout, top = self.layout, self.tables.top
        tokens, low = exp_tokens(target, top, layout), sign_and_mantissa(target, layout)
        usable = self.tables.freqs[0, tokens.token] > 0
        n_escape = int(exp_raw_bits(layout)[-1])
        distance = (top - exponent_of(target, layout)) & (layout.exponents - 1)
        escaped = (distance << layout.spare_bits) | (low >> (8 * layout.raw_planes))
        coded = with_escapes(tokens, usable, EXP_TOKENS - 1, n_escape, escaped)
        planes = [(low >> (8 * i)).astype(np.uint8) for i in range(layout.raw_planes)]
        table = np.zeros(target.size, np.int64)
        return write_coded(coded, table, self.tables.freqs, np.concatenate(planes))

    def _decode_numpy(self, payload: Bytes, base: Array | None, out: Array) -> None:
        layout = self.layout
        coded = read_coded(payload, layout.raw_planes * out.size)
        low = np.zeros(out.size, np.int64)
        for i, plane in enumerate(coded.planes.reshape(layout.raw_planes, -1)):
            low |= plane.astype(np.int64) << (8 * i)
        table = np.zeros(out.size, np.int64)
        tokens = decode_tokens(coded, table, self.tables.freqs, exp_raw_bits(layout))
        out[...] = exp_values(tokens, low, self.tables.top, layout)


def count_exponents(target: Array, layout: Layout) -> Array:
    """Weights by exponent: [exponents]."""
    native = kernels()
    if native is not None:
        counts = np.zeros(layout.exponents, np.uint32)
        native[0].count(native[1], layout.width, layout.mantissa, target, None, counts)
        return counts
    return np.bincount(exponent_of(target, layout), minlength=layout.exponents)


def exp_tables(counts: Array, layout: Layout, *, narrow: bool) -> tuple[Tables, float]:
    """Build the table of a tensor from `count_exponents`; returns it and the bits of the counted weights."""
    top = top_exponent(counts, EXP_TOKENS - 1)
    token = np.minimum((top - np.arange(layout.exponents)) & (layout.exponents - 1), EXP_TOKENS - 1)
    by_token = np.bincount(token, weights=counts, minlength=EXP_TOKENS).astype(np.int64)[None]
    n_raw = exp_raw_bits(layout)
    freqs = normalise(by_token, n_raw)
    bits = coded_bits(by_token, freqs, n_raw) + 8 * layout.raw_planes * int(counts.sum())
    return Tables(top, narrow, np.zeros(N_CONTEXTS, np.int64), freqs), bits
