"""What a user could store a tensor with: one `Contestant` each, ours among them.

Every contestant turns (target, base) into an opaque state and back. Chunked ones use the chunk size of
deltavcs. The byte-plane recipes run on our own native plane kernels, so they are faster than their authors'.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import zstandard

from deltavcs.codec import CHUNK_BYTES, CodecId, make_encoder, open_decoder, plan
from deltavcs.codec.codec_kernels import levels, set_level
from deltavcs.codec.numbers import LAYOUTS, apply_differences, differences

Bytes = np.ndarray
REFERENCE = "XOR + planes + zstd-1"
OURS = "deltavcs"
OURS_ALONE = "deltavcs, no base"


@dataclass(frozen=True)
class Contestant:
    """One way to store a tensor.

    Attributes:
        name: shown in the tables.
        uses_base: False if it codes the target alone.
        level: the kernels of deltavcs that it runs on.
        rounds: at most this many; 0 if there is no limit.
        encode: (dtype, target, base) -> (stored bytes, state).
        decode: (dtype, state, base, out) -> None; fills out.
        absent: why it cannot run, or empty.
    """

    name: str
    uses_base: bool
    encode: Callable[[str, Bytes, Bytes], tuple[int, Any]]
    decode: Callable[[str, Any, Bytes, Bytes], None]
    level: str = ""
    rounds: int = 0
    absent: str = ""


@contextmanager
def on_level(level: str) -> Iterator[None]:
    """Use the kernels of `level` for the block; the best without one."""
    set_level(level or levels()[-1])
    try:
        yield
    finally:
        set_level(levels()[-1])


def chunks(data: Bytes) -> list[Bytes]:
    return [data[at : at + CHUNK_BYTES] for at in range(0, data.size, CHUNK_BYTES)]


def _of_deltavcs(
    name: str, codec: CodecId | None, uses_base: bool, level: int = 3, kernels: str = ""
) -> Contestant:
    def encode(dtype: str, target: Bytes, base: Bytes) -> tuple[int, Any]:
        samples = [(target, base if uses_base else None)]
        if codec is None:
            encoder = plan(dtype, samples, level=level)
        else:
            encoder = make_encoder(codec, dtype, samples, level=level)
        pairs = zip(chunks(target), chunks(base), strict=True)
        payloads = [encoder.encode(t, b if uses_base else None) for t, b in pairs]
        return len(encoder.side) + sum(map(len, payloads)), (encoder.codec, encoder.side, payloads)

    def decode(dtype: str, state: Any, base: Bytes, out: Bytes) -> None:
        decoder = open_decoder(state[0], dtype, state[1])
        for payload, b, o in zip(state[2], chunks(base), chunks(out), strict=True):
            decoder.decode(payload, b if uses_base else None, memoryview(o))

    shown = f"{name}, {kernels}" if kernels else name
    rounds = 1 if kernels == "numpy" else 0
    return Contestant(shown, uses_base, encode, decode, kernels, rounds)


def _zstd(level: int) -> Contestant:
    compressor, decompressor = zstandard.ZstdCompressor(level=level), zstandard.ZstdDecompressor()

    def encode(dtype: str, target: Bytes, base: Bytes) -> tuple[int, Any]:
        frames = [compressor.compress(chunk.data) for chunk in chunks(target)]
        return sum(map(len, frames)), frames

    def decode(dtype: str, state: Any, base: Bytes, out: Bytes) -> None:
        for frame, o in zip(state, chunks(out), strict=True):
            o[:] = np.frombuffer(decompressor.decompress(frame), np.uint8)

    return Contestant(f"zstd-{level}", False, encode, decode)


def _bitx(level: int = 3) -> Contestant:
    """BitX: XOR, then sign-exponent and mantissa streams of a 16-bit float, each through zstd."""
    compressor, decompressor = zstandard.ZstdCompressor(level=level), zstandard.ZstdDecompressor()

    def encode(dtype: str, target: Bytes, base: Bytes) -> tuple[int, Any]:
        frames = []
        for t, b in zip(chunks(target), chunks(base), strict=True):
            word = (t ^ b).view("<u2")
            word = (word << 1) | (word >> 15)
            parts = word.astype(np.uint8), (word >> 8).astype(np.uint8)
            frames.append([compressor.compress(part.data) for part in parts])
        return sum(len(f) for pair in frames for f in pair), frames

    def decode(dtype: str, state: Any, base: Bytes, out: Bytes) -> None:
        for frames, b, o in zip(state, chunks(base), chunks(out), strict=True):
            low, high = (np.frombuffer(decompressor.decompress(f), np.uint8) for f in frames)
            word = low.astype("<u2") | (high.astype("<u2") << 8)
            np.bitwise_xor(((word >> 1) | (word << 15)), b.view("<u2"), out=o.view("<u2"))

    return Contestant(f"BitX split + zstd-{level}", True, encode, decode)


def _missing(name: str, uses_base: bool, exc: ImportError) -> Contestant:
    def refuse(*args: Any) -> Any:
        raise exc

    return Contestant(name, uses_base, refuse, refuse, absent=str(exc))


def _zipnn(on_xor: bool) -> Contestant:
    name = "ZipNN on XOR" if on_xor else "ZipNN"
    try:
        zipnn = importlib.import_module("zipnn")
    except ImportError as exc:
        return _missing(name, on_xor, exc)
    dtypes = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
    coders = {
        d: zipnn.ZipNN(input_format="byte", bytearray_dtype=spelt, threads=1) for d, spelt in dtypes.items()
    }

    def encode(dtype: str, target: Bytes, base: Bytes) -> tuple[int, Any]:
        data = target ^ base if on_xor else target
        stored = coders[dtype].compress(bytearray(data))
        return len(stored), stored

    def decode(dtype: str, state: Any, base: Bytes, out: Bytes) -> None:
        plain = np.frombuffer(coders[dtype].decompress(state), np.uint8)
        if on_xor:
            np.bitwise_xor(plain, base, out=out)
        else:
            out[:] = plain

    return Contestant(name, on_xor, encode, decode)


def _pcodec(on_difference: bool) -> Contestant:
    name = "pcodec on the integer difference" if on_difference else "pcodec on the integers"
    try:
        pcodec = importlib.import_module("pcodec")
        standalone = importlib.import_module("pcodec.standalone")
    except ImportError as exc:
        return _missing(name, on_difference, exc)

    def encode(dtype: str, target: Bytes, base: Bytes) -> tuple[int, Any]:
        layout = LAYOUTS[dtype]
        words = target.view(layout.word)
        if on_difference:
            words = differences(words, base.view(layout.word), layout)
        stored = standalone.simple_compress(words, pcodec.ChunkConfig())
        return len(stored), stored

    def decode(dtype: str, state: Any, base: Bytes, out: Bytes) -> None:
        layout = LAYOUTS[dtype]
        words = standalone.simple_decompress(state)
        if on_difference:
            words = apply_differences(words, base.view(layout.word), layout)
        out.view(layout.word)[:] = words

    return Contestant(name, on_difference, encode, decode)


def _z4ai(on_base: bool) -> Contestant:
    name = "z4ai, with the base" if on_base else "z4ai"
    try:
        z4ai = importlib.import_module("z4ai")
    except ImportError as exc:
        return _missing(name, on_base, exc)
    dtypes = {"BF16": "bf16", "F16": "fp16", "F32": "fp32"}

    def encode(dtype: str, target: Bytes, base: Bytes) -> tuple[int, Any]:
        if on_base:
            stored = z4ai.compress_delta(target.tobytes(), base.tobytes(), dtype=dtypes[dtype])
        else:
            stored = z4ai.compress(target.tobytes(), dtype=dtypes[dtype])
        return len(stored), stored

    def decode(dtype: str, state: Any, base: Bytes, out: Bytes) -> None:
        plain = z4ai.decompress_delta(state, base.tobytes()) if on_base else z4ai.decompress(state)
        out[:] = np.frombuffer(plain, np.uint8)

    return Contestant(name, on_base, encode, decode)


def with_a_base() -> list[Contestant]:
    """Ways to store a fine-tune, absent ones included; the reference of the ratios comes first."""
    lower = levels()[-2::-1]
    return [
        _of_deltavcs(REFERENCE, CodecId.XOR, True, level=1),
        _of_deltavcs(OURS, None, True),
        *(_of_deltavcs(OURS, None, True, kernels=level) for level in lower),
        *(_of_deltavcs(REFERENCE, CodecId.XOR, True, level=1, kernels=level) for level in lower),
        _bitx(),
        _zipnn(on_xor=True),
        _pcodec(on_difference=True),
        _z4ai(on_base=True),
        *alone(),
    ]


def alone() -> list[Contestant]:
    """Ways to store weights without a base."""
    return [
        _of_deltavcs(OURS_ALONE, None, False),
        _of_deltavcs("planes + zstd-3", CodecId.PLAIN, False),
        _zipnn(on_xor=False),
        _pcodec(on_difference=False),
        _z4ai(on_base=False),
        _zstd(3),
    ]
