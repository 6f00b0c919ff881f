"""Stored chunks, and those of the bases below them, from files to memory or to a file in one native call.

What is read this way is decoded and proven as by the decoders, without the GIL and without a step of Python
between a chunk and the next. The call stops before a chunk that it cannot do, be it damaged or of a codec
that needs a library; whoever calls does that chunk with the decoder, which can tell what is wrong.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from deltavcs.codec import Decoder
from deltavcs.codec.codec_kernels import kernels
from deltavcs.codec.coded import CodedCodec
from deltavcs.codec.zstd import RawCodec

STAGES = ("read", "decode", "checksum", "wait", "write")
"""What the seconds of `ChunksDone` were spent on."""


def _find_extension() -> ModuleType | None:
    try:
        return importlib.import_module("deltavcs.objects._native")
    except ImportError:  # not built: the decoders do the work
        return None


_extension = _find_extension()


@dataclass(frozen=True, slots=True)
class ChunksDone:
    """Chunks that were done, from the first one on, and the seconds by stage."""

    chunks: int
    seconds: tuple[float, float, float, float, float]


_NOTHING = ChunksDone(0, (0.0, 0.0, 0.0, 0.0, 0.0))


class NativeEntry:
    """The chunks of one pack entry. Thread-safe.

    Attributes:
        scratch_bytes: memory that a call needs, to be brought along.
        links: files that a call needs: that of the entry, of its base, of the base's base, …
    """

    def __init__(self, entry: Any, links: int) -> None:
        self.entry = entry
        self.links = links
        self.scratch_bytes: int = entry.scratch_bytes

    def read(self, fds: tuple[int, ...], first: int, out: memoryview, scratch: memoryview) -> ChunksDone:
        """Fill `out`, which holds whole chunks, with those from `first` on."""
        native = kernels()
        if native is None:
            return _NOTHING
        return ChunksDone(*self.entry.read(native[1], fds, first, out, scratch))

    def copy(
        self, fds: tuple[int, ...], first: int, count: int, to: int, at: int, scratch: memoryview
    ) -> ChunksDone:
        """Write `count` chunks from `first` on to position `at` of the file open as `to`."""
        native = kernels()
        if native is None:
            return _NOTHING
        return ChunksDone(*self.entry.copy(native[1], fds, first, count, to, at, scratch))


def open_entry(
    decoder: Decoder,
    base: NativeEntry | None,
    *,
    chunk_log2: int,
    raw_bytes: int,
    starts: npt.NDArray[np.int64],
    chunks: npt.NDArray[np.void],
) -> NativeEntry | None:
    """Return what reads an entry natively, or None if only its decoder can.

    Args:
        base: that of the base, for a codec that needs one.
        starts: where each payload begins in the file.
        chunks: the entry's chunk table, as it is stored.
    """
    coded = isinstance(decoder, CodedCodec) and not decoder.narrow
    if _extension is None or kernels() is None or not (coded or isinstance(decoder, RawCodec)):
        return None
    try:
        coder = decoder.native() if isinstance(decoder, CodedCodec) else None
        below = base.entry if base is not None else None
        entry = _extension.Entry(coder, below, chunk_log2, raw_bytes, starts, chunks)
    except ValueError:  # a base of another length, or none
        return None
    return NativeEntry(entry, 1 + (base.links if base is not None else 0))
