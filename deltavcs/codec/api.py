"""What the layer promises: codec numbers, limits, the encoder and decoder protocols (spec v1-codec §1)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from deltavcs.errors import ErrorKind, FormatError, InvalidInputError

Bytes: TypeAlias = npt.NDArray[np.uint8]
Buffer: TypeAlias = bytes | bytearray | memoryview | npt.NDArray[np.uint8]
Sample: TypeAlias = tuple[Buffer, Buffer | None]
Samples: TypeAlias = Sequence[Sample]

CHUNK_BYTES = 1 << 20
"""Raw bytes per chunk, the writer's default: enough to amortise 128 bytes of coder state."""
MAX_CHUNK_BYTES = 1 << 26
"""Longest chunk a decoder accepts."""
MAX_SIDE_BYTES = 1 << 15
"""Longest side: 17 tables of 128 frequencies, coded as badly as can be, stay below it."""
DEFAULT_LEVEL = 3
"""zstd level of the byte-plane codecs."""


DERIVED = 255
"""Stands in a pack entry where a codec would: the blob is computed, and has no payloads."""


class CodecId(IntEnum):
    """Number of a codec in a pack entry. Append only; 255 is `DERIVED`."""

    RAW = 0
    PLAIN = 1
    XOR = 2
    EXP = 3
    DELTA = 4

    @property
    def word(self) -> str:
        """The codec's word everywhere: its name in the spec, in lower case."""
        return self.name.lower()


def codec_word(number: int) -> str:
    """The word for the codec of a pack entry: its own, `derived`, or the number as text."""
    if number == DERIVED:
        return "derived"
    return CodecId(number).word if number in CodecId.__members__.values() else str(number)


class Encoder(Protocol):
    """Turns chunks of one tensor into payloads. Thread-safe.

    Attributes:
        codec: the codec of every payload.
        side: bytes shared by all chunks, to be stored once; at most `MAX_SIDE_BYTES`.
    """

    codec: CodecId
    side: bytes

    def encode(self, target: Buffer, base: Buffer | None) -> bytes:
        """Return the payload of one chunk.

        Raises:
            InvalidInputError: `bad-argument` if the base is missing, or if lengths do not fit.
        """
        ...


class Decoder(Protocol):
    """Turns payloads back into chunks. Thread-safe; memory-safe on any payload."""

    def decode(self, payload: Buffer, base: Buffer | None, out: memoryview) -> None:
        """Fill `out` with the chunk.

        Wrong bytes that still follow the format decode to wrong weights: the object store's checksum
        of the decoded bytes finds those.

        Raises:
            FormatError: `bad-payload`; the contents of `out` are then undefined.
            InvalidInputError: `bad-argument` if the base is missing or has another length than `out`.
        """
        ...


def needs_base(codec: CodecId) -> bool:
    """True if chunks of `codec` are coded against a base."""
    return codec in (CodecId.XOR, CodecId.DELTA)


def as_bytes(data: Any) -> Bytes:
    """View a buffer as a flat uint8 array without copying; writable if the buffer is."""
    if isinstance(data, np.ndarray):
        if not data.flags.c_contiguous:
            raise bad_call("the elements must lie next to each other")
        return data.reshape(-1).view(np.uint8)
    view = memoryview(data)
    if view.nbytes == 0:
        return np.empty(0, np.uint8)
    return np.frombuffer(view, np.uint8)


def bad_payload(why: str) -> FormatError:
    """The error of a decoder that met bytes which do not follow the format."""
    return FormatError(f"payload does not follow the codec's format: {why}", kind=ErrorKind.BAD_PAYLOAD)


def bad_side(why: str) -> FormatError:
    """The error of a decoder that cannot be opened from its side."""
    return FormatError(f"codec tables do not follow the format: {why}", kind=ErrorKind.BAD_PAYLOAD)


def bad_call(why: str) -> InvalidInputError:
    """The error of a caller who broke the contract of `encode` or `decode`."""
    return InvalidInputError(why, kind=ErrorKind.BAD_ARGUMENT)


def check_target(target: Buffer, itemsize: int, limit: int | None = MAX_CHUNK_BYTES) -> Bytes:
    """View the bytes of a chunk to be encoded, proving that it holds whole elements."""
    found = as_bytes(target)
    if found.size % itemsize or (limit is not None and found.size > limit):
        raise bad_call(f"a chunk of {found.size} bytes cannot hold whole elements of {itemsize}")
    return found


def check_out(out: memoryview, itemsize: int) -> Bytes:
    """View the bytes to be filled, proving that they hold whole elements."""
    found = as_bytes(out)
    if found.size % itemsize or found.size > MAX_CHUNK_BYTES:
        raise bad_payload(f"a chunk of {found.size} bytes cannot hold whole elements of {itemsize}")
    return found


def check_base(base: Buffer | None, size: int) -> Bytes:
    """View the base of a chunk of `size` bytes.

    Raises:
        InvalidInputError: `bad-argument` if it is missing or of another length.
    """
    if base is None:
        raise bad_call("this codec needs a base")
    found = as_bytes(base)
    if found.size != size:
        raise bad_call(f"the base chunk has {found.size} bytes, the chunk {size}")
    return found
