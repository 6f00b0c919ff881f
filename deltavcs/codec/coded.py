"""What DELTA and EXP share: upcast halves, the fallback of a chunk that does not compress (spec §7.1)."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np

from deltavcs.codec.api import (
    DEFAULT_LEVEL,
    MAX_SIDE_BYTES,
    Buffer,
    Bytes,
    CodecId,
    as_bytes,
    bad_payload,
    bad_side,
    check_base,
    check_out,
    check_target,
    needs_base,
)
from deltavcs.codec.codec_kernels import kernels
from deltavcs.codec.frequency_tables import Tables, read_side
from deltavcs.codec.numbers import LAYOUTS, Array, Layout
from deltavcs.codec.payload import MODE_CODED, MODE_PLANES, MODE_RAW, n_sections_for
from deltavcs.codec.zstd import PlanesCodec, RawCodec


def coded_layout(dtype: str, *, narrow: bool) -> Layout:
    """The layout that is entropy-coded: that of bf16 for F32 whose low halves are zero."""
    return LAYOUTS["BF16" if narrow else dtype]


def upper_halves(data: Bytes) -> Array:
    """Bits 16..31 of each float32, as uint16."""
    return np.ascontiguousarray(data.view("<u2")[1::2])


class CodedCodec(ABC):
    """Encoder and decoder of one tensor whose chunks share `Tables`."""

    codec: CodecId

    def __init__(
        self,
        dtype: str,
        side: bytes,
        *,
        narrow: bool,
        level: int = DEFAULT_LEVEL,
        tables: Tables | None = None,
        coder: Any = None,
    ) -> None:
        """Args:
        side: as `write_side` gives it.
        narrow: as in `Tables`.
        level: zstd level of chunks that are not entropy-coded.
        tables: what the side holds, if that is known.
        coder: the native `Coder` of these tables, if there is one already.
        """
        self.side = side
        self.narrow = narrow
        self.layout = coded_layout(dtype, narrow=narrow)
        self._dtype = dtype
        self._tables = tables
        self._coder = coder
        self._itemsize = LAYOUTS[dtype].width // 8
        self._raw = RawCodec(self._itemsize)
        planes = CodecId.XOR if needs_base(self.codec) else CodecId.PLAIN
        self._planes = PlanesCodec(planes, self._itemsize, level)

    @classmethod
    def open(cls, dtype: str, side: bytes) -> Self:
        """Return the decoder that a side describes.

        Raises:
            FormatError: `bad-payload` if it is malformed or `dtype` is not coded this way.
        """
        layout, narrow = _open_layout(dtype, side)
        native, delta = kernels(), needs_base(cls.codec)
        if len(side) > MAX_SIDE_BYTES:
            raise bad_side(f"a side of {len(side)} bytes")
        if native is None:
            return cls(dtype, side, narrow=narrow, tables=open_tables(dtype, side, delta=delta))
        try:
            coder = native[0].open_coder(side, layout.width, layout.mantissa, not delta)
        except ValueError as exc:
            raise bad_side(str(exc)) from exc
        return cls(dtype, side, narrow=narrow, coder=coder)

    @property
    def tables(self) -> Tables:
        """What the side holds."""
        if self._tables is None:
            self._tables = open_tables(self._dtype, self.side, delta=needs_base(self.codec))
        return self._tables

    @abstractmethod
    def _encode_numpy(self, target: Array, base: Array | None) -> bytes:
        """Return the payload in mode 0 of patterns of `self.layout`."""

    @abstractmethod
    def _decode_numpy(self, payload: Bytes, base: Array | None, out: Array) -> None:
        """Undo `_encode_numpy`, or raise FormatError."""

    def native(self) -> Any:
        """The `Coder` of the native kernels, made once; there must be kernels."""
        if self._coder is None:
            found, layout, tables = kernels(), self.layout, self.tables
            assert found is not None
            self._coder = found[0].Coder(
                layout.width,
                layout.mantissa,
                tables.top,
                self.codec is CodecId.EXP,
                tables.table_of.astype(np.uint8).tobytes(),
                tables.freqs.astype("<u2").tobytes(),
            )
        return self._coder

    def _encode(self, target: Array, base: Array | None) -> bytes | None:
        """The payload in mode 0; None if it would be longer than the chunk."""
        native = kernels()
        if native is None:
            return self._encode_numpy(target, base)
        found: bytes | None = self.native().encode(native[1], n_sections_for(target.size), target, base)
        return found

    def _decode(self, payload: Bytes, base: Array | None, out: Array) -> None:
        """Undo `_encode`, or raise FormatError."""
        native = kernels()
        if native is None:
            self._decode_numpy(payload, base, out)
            return
        try:
            self.native().decode(native[1], payload, base, out)
        except ValueError as exc:
            raise bad_payload(str(exc)) from exc

    def encode(self, target: Buffer, base: Buffer | None) -> bytes:
        """Return the payload of one chunk; see `Encoder.encode`."""
        data = check_target(target, self._itemsize)
        against = check_base(base, data.size) if needs_base(self.codec) else None
        if self.narrow and data.view("<u2")[::2].any():
            return self._fallback(data, against)
        patterns = upper_halves if self.narrow else self._patterns
        target = patterns(data)
        coded = self._encode(target, None if against is None else patterns(against))
        # Every level stops here, wherever it noticed that it takes too much room.
        return coded if coded is not None and len(coded) <= target.nbytes else self._fallback(data, against)

    def _patterns(self, data: Bytes) -> Array:
        return data.view(self.layout.word)

    def _fallback(self, data: Bytes, base: Bytes | None) -> bytes:
        planes = self._planes.encode(data, base)
        if len(planes) < data.size:
            return bytes([MODE_PLANES]) + planes
        return bytes([MODE_RAW]) + data.tobytes()

    def decode(self, payload: Buffer, base: Buffer | None, out: memoryview) -> None:
        """Fill `out`; see `Decoder.decode`."""
        native = kernels()
        if native is not None and not self.narrow:
            # The way of nearly every chunk. Whatever does not fit is told apart below.
            with contextlib.suppress(ValueError, BufferError):
                self.native().decode(native[1], payload, base, out)
                return
        filled, found = check_out(out, self._itemsize), as_bytes(payload)
        against = check_base(base, filled.size) if needs_base(self.codec) else None
        if not found.size:
            raise bad_payload("it is empty")
        mode = int(found[0])
        if mode == MODE_CODED:
            self._decode_coded(found, against, filled)
        elif mode == MODE_PLANES:
            self._planes.decode(found[1:], base, out)
        elif mode == MODE_RAW:
            self._raw.decode(found[1:], base, out)
        else:
            raise bad_payload(f"unknown mode {mode}")

    def _decode_coded(self, payload: Bytes, base: Bytes | None, out: Bytes) -> None:
        if not self.narrow:
            self._decode(payload, None if base is None else self._patterns(base), self._patterns(out))
            return
        halves = np.empty(out.size // 4, "<u2")
        self._decode(payload, None if base is None else upper_halves(base), halves)
        out.view("<u4")[...] = halves.astype("<u4") << np.uint32(16)


def _open_layout(dtype: str, side: bytes) -> tuple[Layout, bool]:
    """The coded layout of a DELTA or EXP tensor, and if it is upcast."""
    if dtype not in LAYOUTS:
        raise bad_payload(f"{dtype} is not coded by exponents")
    narrow = len(side) > 1 and bool(side[1] & 1)
    if narrow and dtype != "F32":
        raise bad_payload(f"{dtype} has no upcast form")
    return coded_layout(dtype, narrow=narrow), narrow


def open_tables(dtype: str, side: bytes, *, delta: bool) -> Tables:
    """Return the tables in the side of a DELTA or EXP tensor.

    Raises:
        FormatError: `bad-payload` if it is malformed or `dtype` is not coded this way.
    """
    layout, _ = _open_layout(dtype, side)
    tables = read_side(side, layout.n_tokens if delta else 64, layout.exponents)
    if not delta and len(tables.freqs) != 1:
        raise bad_payload("exp has one table")
    return tables
