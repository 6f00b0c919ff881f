"""The bytes of a pack: header, entries, trailer (spec §4). No I/O here."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from deltavcs.codec import DERIVED as DERIVED
from deltavcs.errors import ErrorKind, FormatError, IntegrityError
from deltavcs.objects.domain import MAX_DOMAIN_BYTES, domain_bytes
from deltavcs.oid import BlobId

PACK_HEADER = b"\x89DVXPACK" + struct.pack("<H6x", 1)
ENTRY_MAGIC = b"DVXE"
ENTRY_VERSION = 1
MAX_CODEC = 4
MAX_SIDE_BYTES = 16 << 20
MAX_RAW_BYTES = 1 << 48
MIN_CHUNK_LOG2, MAX_CHUNK_LOG2 = 16, 26
NO_BASE = bytes(32)

_ENTRY = struct.Struct("<4sBBBx32s32sQQIIH6xQ")
_TRAILER = struct.Struct("<8sQQ")
_TRAILER_MAGIC = b"DVXTAIL\n"
CHUNK = np.dtype([("length", "<u4"), ("xxh3", "<u8")])

ENTRY_HEADER_BYTES = _ENTRY.size
TRAILER_BYTES = _TRAILER.size

assert ENTRY_HEADER_BYTES == 112
assert CHUNK.itemsize == 12


@dataclass(frozen=True, slots=True)
class EntryHead:
    """What the fixed part of an entry says."""

    blob: BlobId
    base: BlobId | None
    codec: int
    chunk_log2: int
    raw_bytes: int
    payload_bytes: int
    side_bytes: int
    n_chunks: int
    n_domain_bytes: int
    checksum: int

    @property
    def prefix_bytes(self) -> int:
        """Bytes from the start of the entry to its first payload."""
        return ENTRY_HEADER_BYTES + self.n_domain_bytes + self.side_bytes + CHUNK.itemsize * self.n_chunks

    @property
    def entry_bytes(self) -> int:
        """Bytes of the whole entry."""
        return self.prefix_bytes + self.payload_bytes


@dataclass(frozen=True, slots=True)
class Prefix:
    """An entry without its payloads, verified.

    Attributes:
        chunks: structured array of `length` and `xxh3`, one per chunk.
        starts: int64, offset of each chunk's payload from the start of the entry.
    """

    head: EntryHead
    domain: str
    side: bytes
    chunks: npt.NDArray[np.void]
    starts: npt.NDArray[np.int64]


def chunk_count(raw_bytes: int, chunk_log2: int) -> int:
    """Chunks of a blob: ceil(raw_bytes / 2^chunk_log2)."""
    return (raw_bytes + (1 << chunk_log2) - 1) >> chunk_log2


def encode_prefix(
    *,
    blob: BlobId,
    base: BlobId | None,
    codec: int,
    chunk_log2: int,
    raw_bytes: int,
    domain: str,
    side: bytes,
    chunks: npt.NDArray[np.void],
) -> bytes:
    """The bytes of an entry up to its payloads."""
    text = domain.encode("ascii")
    fields = (
        ENTRY_MAGIC,
        ENTRY_VERSION,
        codec,
        chunk_log2,
        bytes.fromhex(blob),
        bytes.fromhex(base) if base else NO_BASE,
        raw_bytes,
        int(chunks["length"].sum(dtype=np.uint64)),
        len(side),
        len(chunks),
        len(text),
    )
    tail = text + side + chunks.tobytes()
    unsigned = _ENTRY.pack(*fields, 0)[:-8]
    return unsigned + struct.pack("<Q", xxhash.xxh3_64_intdigest(unsigned + tail)) + tail


def decode_head(data: bytes | bytearray | memoryview) -> EntryHead:
    """Parse the fixed part of an entry and check every length against its limit.

    Raises:
        FormatError: `bad-header`, or `unsupported-version` for an entry of a later version.
    """
    magic, version, codec, log2, blob, base, raw, payload, side, n_chunks, n_domain, checksum = _ENTRY.unpack(
        data[:ENTRY_HEADER_BYTES]
    )
    if magic != ENTRY_MAGIC:
        raise _bad("no entry magic")
    if version != ENTRY_VERSION or (codec > MAX_CODEC and codec != DERIVED):
        raise FormatError(
            f"pack entry of version {version} with codec {codec}",
            kind=ErrorKind.UNSUPPORTED_VERSION,
        )
    if not MIN_CHUNK_LOG2 <= log2 <= MAX_CHUNK_LOG2 or raw > MAX_RAW_BYTES or side > MAX_SIDE_BYTES:
        raise _bad("a length is over its limit")
    too_much = payload > 2 * raw + 1024 * n_chunks
    if n_chunks != chunk_count(raw, log2) or n_domain > MAX_DOMAIN_BYTES or too_much:
        raise _bad("lengths disagree")
    return EntryHead(
        blob=BlobId(blob.hex()),
        base=None if base == NO_BASE else BlobId(base.hex()),
        codec=codec,
        chunk_log2=log2,
        raw_bytes=raw,
        payload_bytes=payload,
        side_bytes=side,
        n_chunks=n_chunks,
        n_domain_bytes=n_domain,
        checksum=checksum,
    )


def decode_prefix(head: EntryHead, data: bytes | bytearray | memoryview) -> Prefix:
    """Parse and verify an entry's prefix; `data` holds exactly `head.prefix_bytes` bytes.

    Raises:
        FormatError: a malformed field.
        IntegrityError: `corrupt` if the checksum does not fit.
    """
    view = memoryview(data)
    check = xxhash.xxh3_64()
    check.update(view[: ENTRY_HEADER_BYTES - 8])
    check.update(view[ENTRY_HEADER_BYTES:])
    if check.intdigest() != head.checksum:
        raise IntegrityError("a pack entry's header is damaged", kind=ErrorKind.CORRUPT)
    at = ENTRY_HEADER_BYTES + head.n_domain_bytes
    try:
        domain = bytes(view[ENTRY_HEADER_BYTES:at]).decode("ascii")
    except UnicodeDecodeError as exc:
        raise _bad("domain is not ASCII") from exc
    if domain_bytes(domain) not in (None, head.raw_bytes):
        raise _bad("raw length does not fit the domain")
    side = bytes(view[at : at + head.side_bytes])
    chunks = np.frombuffer(view[at + head.side_bytes :], dtype=CHUNK)
    lengths = chunks["length"]
    ends = lengths.cumsum(dtype=np.int64) + head.prefix_bytes
    if head.n_chunks and ends[-1] != head.entry_bytes:
        raise _bad("chunk lengths disagree with the payload")
    return Prefix(head, domain, side, chunks, ends - lengths)


def encode_trailer(n_entries: int, pack_bytes: int) -> bytes:
    """The trailer of a pack of `pack_bytes` bytes, trailer included."""
    return _TRAILER.pack(_TRAILER_MAGIC, n_entries, pack_bytes)


def decode_trailer(data: bytes | bytearray) -> tuple[int, int]:
    """Number of entries and length of the pack.

    Raises:
        IntegrityError: `truncated` if there is no trailer.
    """
    magic, n_entries, pack_bytes = _TRAILER.unpack(data)
    if magic != _TRAILER_MAGIC:
        raise IntegrityError("the pack does not end with a trailer", kind=ErrorKind.TRUNCATED)
    return n_entries, pack_bytes


def _bad(why: str) -> FormatError:
    return FormatError(f"malformed pack entry: {why}", kind=ErrorKind.BAD_HEADER)
