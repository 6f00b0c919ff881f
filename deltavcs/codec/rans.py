"""The entropy coder in numpy: 32 interleaved rANS states, the reference of the native kernels (spec §5)."""

from __future__ import annotations

import numpy as np

from deltavcs.codec.api import bad_payload
from deltavcs.codec.numbers import Array, Tokens

LANES = 32
PROB_BITS = 11
PROB_SCALE = 1 << PROB_BITS
STATE_LOW = 1 << 16


def encode_section(tokens: Tokens, table: Array, freqs: Array) -> tuple[Array, Array]:
    """Code one section.

    Args:
        tokens: n elements; every token has a frequency in its table.
        table: n table numbers.
        freqs: [tables, alphabet], each row sums to 2048.

    Returns:
        The 32 states the decoder starts from (uint32), and the words in the order it reads them (uint16).
    """
    cums = np.cumsum(freqs, axis=1) - freqs
    freq, cum = freqs[table, tokens.token], cums[table, tokens.token]
    states = np.full(LANES, STATE_LOW, np.int64)
    emitted: list[Array] = []
    for start in reversed(range(0, tokens.token.size, LANES)):
        group = slice(start, start + LANES)
        lanes = states[: tokens.token[group].size]
        n_raw, raw = tokens.n_raw[group], tokens.raw[group]
        emitted.append(_put_raw(lanes, np.maximum(n_raw - 16, 0), raw >> 16))
        emitted.append(_put_raw(lanes, np.minimum(n_raw, 16), raw & 0xFFFF))
        emitted.append(_shed(lanes, lanes >= freq[group] << 21))
        quotient, rest = np.divmod(lanes, freq[group])
        lanes[:] = (quotient << PROB_BITS) + rest + cum[group]
    words = np.concatenate([*reversed(emitted), np.empty(0, np.int64)])
    return states.astype("<u4"), words.astype("<u2")


def _put_raw(lanes: Array, n_bits: Array, raw: Array) -> Array:
    words = _shed(lanes, (n_bits > 0) & (lanes >> (32 - n_bits) > 0))
    lanes[:] = (lanes << n_bits) | (raw & ((1 << n_bits) - 1))
    return words


def _shed(lanes: Array, full: Array) -> Array:
    words = lanes[full] & 0xFFFF
    lanes[full] >>= 16
    return words


class _Words:
    """The words of one section, read once, never past the end."""

    def __init__(self, words: Array) -> None:
        self._words = words.astype(np.int64)
        self._at = 0

    def refill(self, lanes: Array) -> None:
        low = lanes < STATE_LOW
        stop = self._at + int(np.count_nonzero(low))
        if stop > self._words.size:
            raise bad_payload("a section ends before its weights do")
        lanes[low] = (lanes[low] << 16) | self._words[self._at : stop]
        self._at = stop

    def all_read(self) -> bool:
        return self._at == self._words.size


def decode_section(states: Array, words: Array, table: Array, freqs: Array, n_raw_of: Array) -> Tokens:
    """Undo `encode_section`.

    Args:
        states: 32 × uint32.
        words: uint16.
        table: table number of each of the n elements.
        freqs: [tables, alphabet], each row sums to 2048.
        n_raw_of: raw bits of every token.

    Raises:
        FormatError: `bad-payload` if words are missing or left over, or a state begins below or does not
            end at 2^16.
    """
    if np.any(states < STATE_LOW):
        raise bad_payload("a section begins with a state that no encoder leaves")
    symbols = np.stack([np.repeat(np.arange(freqs.shape[1]), row) for row in freqs])
    cums = np.cumsum(freqs, axis=1) - freqs
    lanes_all, reader = states.astype(np.int64), _Words(words)
    token, raw = np.zeros(table.size, np.int64), np.zeros(table.size, np.int64)
    for start in range(0, table.size, LANES):
        of = table[start : start + LANES]
        lanes = lanes_all[: of.size]
        slot = lanes & (PROB_SCALE - 1)
        found = symbols[of, slot]
        lanes[:] = freqs[of, found] * (lanes >> PROB_BITS) + slot - cums[of, found]
        reader.refill(lanes)
        n_raw = n_raw_of[found]
        token[start : start + LANES] = found
        raw[start : start + LANES] = _take_raw(lanes, reader, n_raw)
    if not reader.all_read() or np.any(lanes_all != STATE_LOW):
        raise bad_payload("a section does not end where its weights do")
    return Tokens(token, n_raw_of[token], raw)


def _take_raw(lanes: Array, reader: _Words, n_raw: Array) -> Array:
    taken = np.zeros(lanes.size, np.int64)
    for shift in (0, 16):
        n_bits = np.clip(n_raw - shift, 0, 16)
        some = n_bits > 0
        if not some.any():
            break
        taken |= (lanes & ((1 << n_bits) - 1)) << shift
        lanes >>= n_bits
        # A lane that gave no bits is never below the limit.
        reader.refill(lanes)
    return taken
