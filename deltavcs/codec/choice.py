"""Which codec for a tensor: a cheap estimate of each one's size, then tables for the winner."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from deltavcs.codec.api import (
    CHUNK_BYTES,
    DEFAULT_LEVEL,
    Bytes,
    CodecId,
    Decoder,
    Encoder,
    Samples,
    bad_call,
    bad_side,
    check_base,
    check_target,
    needs_base,
)
from deltavcs.codec.codec_kernels import kernels
from deltavcs.codec.coded import coded_layout, upper_halves
from deltavcs.codec.delta import DeltaCodec, tune
from deltavcs.codec.exponent import ExpCodec, count_exponents, exp_tables
from deltavcs.codec.frequency_tables import write_side
from deltavcs.codec.numbers import LAYOUTS, Array
from deltavcs.codec.payload import n_sections_for
from deltavcs.codec.planes import split_planes
from deltavcs.codec.rans import LANES
from deltavcs.codec.zstd import PlanesCodec, RawCodec, compress
from deltavcs.errors import ErrorKind, FormatError
from deltavcs.tensors.dtypes import dtype_of

Pair = tuple[Bytes, Bytes | None]
# Number of a sample and of the chunk in it, and a part of that chunk.
Piece = tuple[tuple[int, int], Bytes, Bytes | None]

_TRIAL_BYTES = 1 << 17
_TRIAL_PIECES = 4
# Where an entropy coder competes, a trial only has to notice repetition.
_BRIEF_TRIAL_BYTES = 1 << 14
_COUNTED_BYTES = 1 << 22
# Shorter tensors cannot pay for tables and states.
_MIN_CODED_BYTES = 1 << 11
_NUMPY_BYTES = 1 << 20
_GOOD_DIFFERENCE = 0.5


@dataclass(frozen=True, slots=True)
class _Estimate:
    """An encoder and the bytes it is expected to need for the samples."""

    n_bytes: float
    encoder: Encoder


def plan(dtype: str, samples: Samples, *, level: int = DEFAULT_LEVEL) -> Encoder:
    """Return the encoder expected to store a tensor in the fewest bytes.

    Without native kernels, tensors too long for the numpy coder are not entropy-coded.

    Args:
        dtype: as safetensors spells it; `U8` for files.
        samples: aligned (target, base) byte ranges of the tensor, all of it or a sample; base None when
            the tensor is coded alone. Values that the sample lacks stay encodable.
        level: zstd level of the byte-plane codecs.

    Raises:
        FormatError: `unsupported-dtype`.
        InvalidInputError: `bad-argument` if a base has another length than its target.
    """
    itemsize = dtype_of(dtype).itemsize
    pairs = _views(samples, itemsize)
    raw = sum(target.size for target, _ in pairs)
    paired = bool(pairs) and all(base is not None for _, base in pairs)
    estimates = [_Estimate(raw, RawCodec(itemsize))]
    limit, trial_level = _TRIAL_BYTES, level
    if dtype in LAYOUTS and raw >= _MIN_CODED_BYTES and (kernels() is not None or raw <= _NUMPY_BYTES):
        estimates.append(_delta(dtype, pairs, level) if paired else _exp(dtype, pairs, level))
        limit, trial_level = _BRIEF_TRIAL_BYTES, min(level, 1)
    for codec in (CodecId.XOR, CodecId.PLAIN) if paired else (CodecId.PLAIN,):
        # Alone, a tensor hardly ever beats a good difference: only look if the difference is poor.
        if codec is CodecId.PLAIN and paired and estimates[-1].n_bytes < raw * _GOOD_DIFFERENCE:
            continue
        size = raw * _trial(pairs, itemsize, trial_level, limit=limit, against_base=needs_base(codec))
        estimates.append(_Estimate(size, PlanesCodec(codec, itemsize, level)))
    return min(estimates, key=lambda estimate: estimate.n_bytes).encoder


def make_encoder(codec: CodecId, dtype: str, samples: Samples, *, level: int = DEFAULT_LEVEL) -> Encoder:
    """Return an encoder of the given codec; see `plan` for the arguments.

    Raises:
        InvalidInputError: `bad-argument` also if the codec cannot code `dtype`, or lacks a base.
    """
    itemsize = dtype_of(dtype).itemsize
    if codec is CodecId.RAW:
        return RawCodec(itemsize)
    if codec in (CodecId.PLAIN, CodecId.XOR):
        return PlanesCodec(codec, itemsize, level)
    if dtype not in LAYOUTS:
        raise bad_call(f"{codec.word} cannot code {dtype}")
    pairs = _views(samples, itemsize)
    build = _exp if codec is CodecId.EXP else _delta
    return build(dtype, pairs, level).encoder


def open_decoder(codec: int, dtype: str, side: bytes) -> Decoder:
    """Return the decoder of a tensor.

    Args:
        codec: number found in the pack entry.
        dtype: as safetensors spells it; `U8` for files.
        side: the encoder's `side`.

    Raises:
        FormatError: `unsupported-feature` for an unknown codec, `bad-payload` for a malformed side.
    """
    itemsize = dtype_of(dtype).itemsize
    if codec == CodecId.DELTA:
        return DeltaCodec.open(dtype, side)
    if codec == CodecId.EXP:
        return ExpCodec.open(dtype, side)
    if codec not in CodecId.__members__.values():
        raise FormatError(f"unknown codec {codec}", kind=ErrorKind.UNSUPPORTED_FEATURE)
    known = CodecId(codec)
    if side:
        raise bad_side(f"{known.word} has none, {len(side)} bytes were stored")
    return RawCodec(itemsize) if known is CodecId.RAW else PlanesCodec(known, itemsize)


def _views(samples: Samples, itemsize: int) -> list[Pair]:
    pairs = []
    for target, base in samples:
        data = check_target(target, itemsize, limit=None)
        pairs.append((data, None if base is None else check_base(base, data.size)))
    return pairs


def _delta(dtype: str, pairs: list[Pair], level: int) -> _Estimate:
    narrow = _is_upcast(dtype, pairs)
    counted = []
    n_counted = 0
    for _, target, base in _pieces(pairs, LAYOUTS[dtype].width // 8, _COUNTED_BYTES):
        if base is None:
            raise bad_call("delta needs a base in every sample")
        counted.append((_patterns(target, dtype, narrow), _patterns(base, dtype, narrow)))
        n_counted += target.size
    encoder, bits = tune(dtype, counted, narrow=narrow, level=level)
    return _Estimate(_whole(bits / 8, pairs, n_counted) + _overhead(encoder.side, pairs, dtype), encoder)


def _exp(dtype: str, pairs: list[Pair], level: int) -> _Estimate:
    narrow = _is_upcast(dtype, pairs)
    layout = coded_layout(dtype, narrow=narrow)
    counts = np.zeros(layout.exponents, np.int64)
    n_counted = 0
    for _, target, _ in _pieces(pairs, LAYOUTS[dtype].width // 8, _COUNTED_BYTES):
        counts += count_exponents(_patterns(target, dtype, narrow), layout)
        n_counted += target.size
    tables, bits = exp_tables(counts, layout, narrow=narrow)
    encoder = ExpCodec(dtype, write_side(tables), narrow=narrow, level=level, tables=tables)
    return _Estimate(_whole(bits / 8, pairs, n_counted) + _overhead(encoder.side, pairs, dtype), encoder)


def _whole(n_bytes: float, pairs: list[Pair], n_counted: int) -> float:
    """Scale the bytes of what was counted to all samples."""
    return n_bytes * sum(target.size for target, _ in pairs) / max(1, n_counted)


def _overhead(side: bytes, pairs: list[Pair], dtype: str) -> float:
    """Bytes of tables, section headers and states, as if each sample were one chunk."""
    itemsize = LAYOUTS[dtype].width // 8
    return len(side) + sum(4 + n_sections_for(t.size // itemsize) * (4 + 3 * LANES) for t, _ in pairs)


def _is_upcast(dtype: str, pairs: list[Pair]) -> bool:
    """True for F32 that is bf16 with zeros appended, as far as the samples show."""
    if dtype != "F32" or not any(target.size for target, _ in pairs):
        return False
    low = [target.view("<u2")[::2] for target, _ in pairs]
    # Ordinary tensors show it at once.
    return not any(half[:4096].any() for half in low) and not any(half.any() for half in low)


def _patterns(data: Bytes, dtype: str, narrow: bool) -> Array:
    return upper_halves(data) if narrow else data.view(LAYOUTS[dtype].word)


def _trial(pairs: list[Pair], itemsize: int, level: int, *, limit: int, against_base: bool) -> float:
    """Size ratio of a few pieces of the samples through planes and zstd.

    Pieces of one chunk are compressed together and those of different chunks apart, as the chunks will be: a
    repetition counts if it is within a chunk.
    """
    raw = stored = 0
    for target, base in _by_chunk(_pieces(pairs, itemsize, limit)):
        planes = split_planes(target, itemsize, base if against_base else None)
        raw, stored = raw + target.size, stored + len(compress(planes, level))
    return stored / raw if raw else 1.0


def _by_chunk(pieces: Iterator[Piece]) -> Iterator[Pair]:
    for _, group in groupby(pieces, key=lambda piece: piece[0]):
        found = list(group)
        if len(found) == 1:
            yield found[0][1:]
            continue
        bases = [base for _, _, base in found if base is not None]
        yield np.concatenate([target for _, target, _ in found]), np.concatenate(bases) if bases else None


def _pieces(pairs: list[Pair], itemsize: int, limit: int) -> Iterator[Piece]:
    """At most about `limit` bytes in evenly spread pieces; everything if the samples are shorter."""
    raw = sum(target.size for target, _ in pairs)
    if raw <= limit:
        yield from (((i, 0), *pair) for i, pair in enumerate(pairs))
        return
    length = limit // _TRIAL_PIECES // itemsize * itemsize
    step = (raw - length) // (_TRIAL_PIECES - 1) // itemsize * itemsize
    starts = [i * step for i in range(_TRIAL_PIECES)]
    before = 0
    for i, (target, base) in enumerate(pairs):
        for start in (at - before for at in starts if before <= at < before + target.size):
            stop = start + length
            yield (i, start // CHUNK_BYTES), target[start:stop], None if base is None else base[start:stop]
        before += target.size
