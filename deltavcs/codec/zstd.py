"""The codecs without tables: RAW, PLAIN and XOR (spec v1-codec §2, §3)."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import zstandard

from deltavcs.codec.api import (
    DEFAULT_LEVEL,
    MAX_CHUNK_BYTES,
    Buffer,
    Bytes,
    CodecId,
    as_bytes,
    bad_payload,
    check_base,
    check_out,
    check_target,
    needs_base,
)
from deltavcs.codec.codec_kernels import kernels
from deltavcs.codec.planes import join_planes, split_planes

# zstandard's contexts may not be used by two threads at once, and cost too much to make per chunk.
_contexts = threading.local()


def _compressor(level: int) -> zstandard.ZstdCompressor:
    found: dict[int, zstandard.ZstdCompressor] = _contexts.__dict__.setdefault("compressors", {})
    if level not in found:
        found[level] = zstandard.ZstdCompressor(level=level, write_content_size=True, write_checksum=False)
    return found[level]


def _decompressor() -> zstandard.ZstdDecompressor:
    found: zstandard.ZstdDecompressor | None = getattr(_contexts, "decompressor", None)
    if found is None:
        found = _contexts.decompressor = zstandard.ZstdDecompressor()
    return found


def compress(planes: Bytes, level: int) -> bytes:
    """Return one zstd frame that states its content size."""
    return _compressor(level).compress(planes.data)


def decompress(frame: Bytes, size: int) -> Bytes:
    """Return the `size` bytes of one zstd frame; allocates no more than that.

    Raises:
        FormatError: `bad-payload` if the frame is damaged, states another size, or is followed by bytes.
    """
    return as_bytes(_inflate(frame, size))


def _inflate(frame: Any, size: int) -> bytes:
    """As `decompress`."""
    try:
        stated = zstandard.frame_content_size(frame)
        if stated != size:
            raise bad_payload(f"a zstd frame of {stated} bytes where {size} are due")
        plain: bytes = _decompressor().decompress(frame, max_output_size=size, allow_extra_data=False)
    except (zstandard.ZstdError, ValueError, MemoryError) as exc:
        raise bad_payload(f"zstd: {exc}") from exc
    if len(plain) != size:
        raise bad_payload(f"a zstd frame of {len(plain)} bytes where {size} are due")
    return plain


class RawCodec:
    """RAW: the payload is the chunk. Encoder and decoder."""

    codec = CodecId.RAW
    side = b""

    def __init__(self, itemsize: int) -> None:
        self._itemsize = itemsize

    def encode(self, target: Buffer, base: Buffer | None) -> bytes:
        """Return the bytes of `target`; the base is not looked at."""
        return check_target(target, self._itemsize).tobytes()

    def decode(self, payload: Buffer, base: Buffer | None, out: memoryview) -> None:
        """Copy `payload` to `out`; see `Decoder.decode`."""
        filled, found = check_out(out, self._itemsize), as_bytes(payload)
        if found.size != filled.size:
            raise bad_payload(f"{found.size} raw bytes where {filled.size} are due")
        filled[:] = found


class PlanesCodec:
    """PLAIN and XOR: byte planes, of the difference for XOR, in one zstd frame. Encoder and decoder."""

    side = b""

    def __init__(self, codec: CodecId, itemsize: int, level: int = DEFAULT_LEVEL) -> None:
        self.codec = codec
        self._itemsize = itemsize
        self._level = level

    def encode(self, target: Buffer, base: Buffer | None) -> bytes:
        """Return one zstd frame; see `Encoder.encode`."""
        data = check_target(target, self._itemsize)
        against = check_base(base, data.size) if needs_base(self.codec) else None
        return compress(split_planes(data, self._itemsize, against), self._level)

    def decode(self, payload: Buffer, base: Buffer | None, out: memoryview) -> None:
        """Fill `out`; see `Decoder.decode`."""
        native, xor = kernels(), needs_base(self.codec)
        fits = self._itemsize > 1 and out.nbytes <= MAX_CHUNK_BYTES and (base is not None or not xor)
        if native is not None and fits:
            # Lengths are proven by the kernel; whatever does not fit is told apart below.
            with contextlib.suppress(ValueError, BufferError):
                join, level = native[0].planes, native[1]
                join(level, self._itemsize, True, _inflate(payload, out.nbytes), base if xor else None, out)
                return
        filled = check_out(out, self._itemsize)
        against = check_base(base, filled.size) if xor else None
        join_planes(decompress(as_bytes(payload), filled.size), self._itemsize, filled, against)
