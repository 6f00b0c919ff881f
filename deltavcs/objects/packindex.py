"""Pack indexes: where each blob lives (spec §5), loaded into one sorted table for all packs."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from deltavcs.errors import ErrorKind, IntegrityError
from deltavcs.objects import pack as p
from deltavcs.oid import BlobId, PackId
from deltavcs.storage import FileReader

INDEX_HEADER = b"\x89DVXIDX\n" + struct.pack("<H6x", 1)
_COUNTS = struct.Struct("<QQ")
_HEAD = len(INDEX_HEADER) + _COUNTS.size
MAX_INDEX_BYTES = 1 << 30
_USUAL_PREFIX_BYTES = 4096

RECORD = np.dtype(
    [
        ("blob", "V32"),
        ("base", "V32"),
        ("offset", "<u8"),
        ("entry_bytes", "<u8"),
        ("raw_bytes", "<u8"),
        ("codec", "u1"),
        ("zero", "V7"),
    ]
)
assert RECORD.itemsize == 96

Records = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Location:
    """Where a blob is stored and how."""

    pack: PackId
    offset: int
    entry_bytes: int
    raw_bytes: int
    codec: int
    base: BlobId | None


def make_records(heads: list[tuple[int, p.EntryHead]]) -> Records:
    """The sorted records of entries given as (offset, head)."""
    out = np.zeros(len(heads), dtype=RECORD)
    for i, (offset, head) in enumerate(sorted(heads, key=lambda x: x[1].blob)):
        base = bytes.fromhex(head.base) if head.base else p.NO_BASE
        out[i] = (
            bytes.fromhex(head.blob), base, offset, head.entry_bytes, head.raw_bytes, head.codec, b""
        )  # fmt: skip
    return out


def encode_index(records: Records, pack_bytes: int) -> bytes:
    """The index file of a pack."""
    body = INDEX_HEADER + _COUNTS.pack(len(records), pack_bytes) + records.tobytes()
    return body + struct.pack("<Q", xxhash.xxh3_64_intdigest(body))


def decode_index(data: bytes) -> tuple[Records, int]:
    """Records and the pack's length.

    Raises:
        IntegrityError: `corrupt` if anything is off; the pack itself tells the truth.
    """
    if len(data) < _HEAD + 8 or data[: len(INDEX_HEADER)] != INDEX_HEADER:
        raise IntegrityError("not a pack index", kind=ErrorKind.CORRUPT)
    count, pack_bytes = _COUNTS.unpack_from(data, len(INDEX_HEADER))
    if len(data) != _HEAD + count * RECORD.itemsize + 8:
        raise IntegrityError("a pack index has the wrong length", kind=ErrorKind.CORRUPT)
    if struct.unpack("<Q", data[-8:])[0] != xxhash.xxh3_64_intdigest(data[:-8]):
        raise IntegrityError("a pack index is damaged", kind=ErrorKind.CORRUPT)
    return np.frombuffer(data, dtype=RECORD, count=count, offset=_HEAD), pack_bytes


def read_prefix(file: FileReader, at: int) -> p.Prefix:
    """Read and verify the prefix of the entry at `at`.

    Raises:
        FormatError: a malformed field.
        IntegrityError: `corrupt` if the checksum does not fit, `truncated` if the file ends before.
    """
    first = file.read(at, max(p.ENTRY_HEADER_BYTES, min(_USUAL_PREFIX_BYTES, file.size - at)))
    head = p.decode_head(first)
    whole = first if head.prefix_bytes <= len(first) else file.read(at, head.prefix_bytes)
    return p.decode_prefix(head, memoryview(whole)[: head.prefix_bytes])


def scan_pack(file: FileReader) -> Records:
    """Rebuild a pack's records by walking its entries.

    Raises:
        IntegrityError: the pack is truncated or damaged.
        FormatError: an entry is malformed.
    """
    if file.read(0, len(p.PACK_HEADER)) != p.PACK_HEADER:
        raise IntegrityError(f"{file.path} is not a pack", kind=ErrorKind.CORRUPT)
    n_entries, pack_bytes = p.decode_trailer(file.read(file.size - p.TRAILER_BYTES, p.TRAILER_BYTES))
    if pack_bytes != file.size:
        raise IntegrityError(
            f"{file.path} has {file.size} bytes instead of {pack_bytes}", kind=ErrorKind.TRUNCATED
        )
    heads: list[tuple[int, p.EntryHead]] = []
    at = len(p.PACK_HEADER)
    while at < file.size - p.TRAILER_BYTES:
        head = read_prefix(file, at).head
        heads.append((at, head))
        at += head.entry_bytes
    if at != file.size - p.TRAILER_BYTES or len(heads) != n_entries:
        raise IntegrityError(f"{file.path}: entries do not fill the pack", kind=ErrorKind.CORRUPT)
    return make_records(heads)


class BlobTable:
    """Lookup of blobs over all packs. Immutable."""

    def __init__(self, packs: Mapping[PackId, Records]) -> None:
        self.packs = dict(packs)
        self._ids = list(self.packs)
        tables = [self.packs[x] for x in self._ids]
        merged = np.concatenate(tables) if tables else np.zeros(0, dtype=RECORD)
        owner = np.repeat(np.arange(len(tables)), [len(t) for t in tables])
        keys = _prefixes(merged)
        order = np.argsort(keys, kind="stable")
        self._keys, self._records, self._owner = keys[order], merged[order], owner[order]

    def __len__(self) -> int:
        return len(self._records)

    def find(self, blob: BlobId) -> Location | None:
        """Where `blob` is stored first, or None."""
        return next(self.find_all(blob), None)

    def find_all(self, blob: BlobId) -> Iterator[Location]:
        """Where `blob` is stored: once, unless a copy of it was found damaged and it was stored again."""
        want = bytes.fromhex(blob)
        at = int(self._keys.searchsorted(np.uint64(int.from_bytes(want[:8], "big"))))
        while at < len(self._records):
            # One conversion: those of single fields cost as much each.
            record = self._records[at].item()
            found = record[0]
            if found == want:
                yield _location(self._ids[int(self._owner[at])], record)
            elif found[:8] != want[:8]:
                break
            at += 1


def _prefixes(records: Records) -> npt.NDArray[np.uint64]:
    first = np.frombuffer(records["blob"].tobytes(), dtype=">u8").reshape(-1, 4)[:, 0]
    return first.astype(np.uint64)


def _location(pack: PackId, record: tuple[Any, ...]) -> Location:
    _, base, offset, entry_bytes, raw_bytes, codec, _ = record
    return Location(
        pack=pack,
        offset=offset,
        entry_bytes=entry_bytes,
        raw_bytes=raw_bytes,
        codec=codec,
        base=None if base == p.NO_BASE else BlobId(base.hex()),
    )
