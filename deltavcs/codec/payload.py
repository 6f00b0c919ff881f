"""The bytes of a coded chunk: mode, sections of 32 states and words, raw planes (spec v1-codec §7)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from deltavcs.codec.api import Bytes, bad_payload
from deltavcs.codec.numbers import Array, Tokens
from deltavcs.codec.rans import LANES, decode_section, encode_section

MODE_CODED = 0
MODE_PLANES = 1
MODE_RAW = 2
MAX_SECTIONS = 16
_HEADER = struct.Struct("<BBH")
_ELEMENTS_PER_SECTION = 1 << 15
_SECTIONS = 2


def n_sections_for(n_elements: int) -> int:
    """Sections the writer cuts a chunk into: two let a core overlap their latencies (§7.2)."""
    return _SECTIONS if n_elements >= _SECTIONS * _ELEMENTS_PER_SECTION else 1


def section_slices(n_elements: int, n_sections: int) -> list[slice]:
    """The elements of each section: equal runs of whole groups of 32, the last ones shorter (§7.2)."""
    groups = -(-n_elements // LANES)
    length = -(-groups // n_sections) * LANES
    return [slice(min(i * length, n_elements), min((i + 1) * length, n_elements)) for i in range(n_sections)]


def write_coded(tokens: Tokens, table: Array, freqs: Array, planes: Bytes) -> bytes:
    """Return the payload of a chunk in mode 0, coded by the numpy reference.

    Args:
        tokens: n elements.
        table: table number of each element.
        freqs: [tables, alphabet].
        planes: raw bytes appended at the end.
    """
    slices = section_slices(table.size, n_sections_for(table.size))
    parts = [
        encode_section(Tokens(tokens.token[s], tokens.n_raw[s], tokens.raw[s]), table[s], freqs)
        for s in slices
    ]
    head = _HEADER.pack(MODE_CODED, len(slices), 0)
    counts = np.array([words.size for _, words in parts], "<u4").tobytes()
    states = b"".join(states.tobytes() for states, _ in parts)
    return b"".join((head, counts, states, *(words.tobytes() for _, words in parts), planes.tobytes()))


@dataclass(frozen=True, slots=True)
class Coded:
    """A payload in mode 0, taken apart; every length in it is proven.

    Attributes:
        states: one array of 32 uint32 per section.
        words: one array of uint16 per section.
        planes: the raw bytes at the end.
    """

    states: list[Array]
    words: list[Array]
    planes: Bytes


def read_coded(payload: Bytes, n_plane_bytes: int) -> Coded:
    """Take a payload in mode 0 apart.

    Raises:
        FormatError: `bad-payload` if its lengths do not add up.
    """
    if payload.size < _HEADER.size:
        raise bad_payload("no header")
    mode, n_sections, reserved = _HEADER.unpack_from(payload.data)
    if mode != MODE_CODED or not 1 <= n_sections <= MAX_SECTIONS or reserved:
        raise bad_payload(f"mode {mode}, {n_sections} sections, reserved {reserved}")
    at = _HEADER.size + n_sections * (4 + 4 * LANES)
    if payload.size < at:
        raise bad_payload("no room for the sections' states")
    counts = payload[_HEADER.size : _HEADER.size + 4 * n_sections].view("<u4").astype(np.int64)
    if payload.size != at + 2 * int(counts.sum()) + n_plane_bytes:
        raise bad_payload("its length does not fit its sections")
    states = payload[_HEADER.size + 4 * n_sections : at].view("<u4").reshape(n_sections, LANES)
    ends = at + 2 * np.cumsum(counts)
    words = [payload[end - 2 * n : end].view("<u2") for n, end in zip(counts, ends, strict=True)]
    return Coded(list(states), words, payload[payload.size - n_plane_bytes :])


def decode_tokens(coded: Coded, table: Array, freqs: Array, n_raw_of: Array) -> Tokens:
    """Decode all sections by the numpy reference; shapes as in `decode_section`.

    Raises:
        FormatError: `bad-payload` if a section does not end where its weights do.
    """
    slices = section_slices(table.size, len(coded.states))
    parts = [
        decode_section(states, words, table[s], freqs, n_raw_of)
        for states, words, s in zip(coded.states, coded.words, slices, strict=True)
    ]

    def joined(field: Callable[[Tokens], Array]) -> Array:
        return np.concatenate([field(part) for part in parts])

    return Tokens(joined(lambda t: t.token), joined(lambda t: t.n_raw), joined(lambda t: t.raw))
