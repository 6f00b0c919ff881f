"""Objects and packs made by an enemy, who can compute checksums: builders, and tables of what is refused.

Each table has a name, the fixture, and the kind of the error that it must give.
"""

from __future__ import annotations

import contextlib
import json
import struct
from dataclasses import dataclass

import numpy as np
import xxhash
import zstandard
from blake3 import blake3

from deltavcs.errors import ErrorKind, FormatError
from deltavcs.objects import pack as p
from deltavcs.objects.packindex import encode_index, make_records
from deltavcs.oid import BlobId
from deltavcs.repo import open_repository

ZERO = "0" * 64
RAW = bytes(16)
FOUR = "tensor F32 [4]"
XOR, DERIVED = 2, 255


def fake(i: int) -> BlobId:
    """An id that is no hash of anything."""
    return BlobId(f"{i:064x}")


# Entries and packs


class Entry:
    """An entry as the enemy writes it: any field can be replaced."""

    def __init__(
        self,
        blob,
        *,
        raw=b"",
        base=None,
        codec=0,
        domain=None,
        side=b"",
        lengths=None,
        payload=None,
        log2=16,
        raw_bytes=None,
        hashes=None,
    ):
        self.blob = blob
        domain = domain if domain is not None else f"tensor U8 [{len(raw)}]"
        payload = raw if payload is None else payload
        n = p.chunk_count(len(raw) if raw_bytes is None else raw_bytes, log2)
        lengths = [len(payload)] * n if lengths is None else lengths
        chunks = np.zeros(len(lengths), p.CHUNK)
        chunks["length"] = lengths
        chunks["xxh3"] = hashes if hashes is not None else xxhash.xxh3_64_intdigest(raw)
        self.bytes = (
            p.encode_prefix(
                blob=blob,
                base=base,
                codec=codec,
                chunk_log2=log2,
                raw_bytes=len(raw) if raw_bytes is None else raw_bytes,
                domain=domain,
                side=side,
                chunks=chunks,
            )
            + payload
        )


def side(inputs, program, *, op="linear", elements=4) -> bytes:
    """The side of a derived entry."""
    value = {
        "inputs": [{"blob": b, "elements": elements} for b in inputs],
        "op": op,
        "params": {"program": program},
    }
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def derived(blob, side_bytes, *, domain=FOUR) -> Entry:
    """A derived entry of 16 bytes, all zero."""
    return Entry(blob, raw=RAW, codec=DERIVED, domain=domain, payload=b"", lengths=[0], side=side_bytes)


def plant(repo, entries):
    """Put a pack of these entries into a repository, with an index, under its own name; opens it anew."""
    data = p.PACK_HEADER + b"".join(e.bytes for e in entries)
    data += p.encode_trailer(len(entries), len(data) + p.TRAILER_BYTES)
    pack = blake3(data).hexdigest()
    (repo.path / "packs" / f"{pack}.pack").write_bytes(data)
    heads, at = [], len(p.PACK_HEADER)
    for e in entries:
        with contextlib.suppress(FormatError):
            heads.append((at, p.decode_head(e.bytes)))
        at += len(e.bytes)
    (repo.path / "packs" / f"{pack}.idx").write_bytes(encode_index(make_records(heads), len(data)))
    return open_repository(repo.path.parent)


def plant_true(repo, n, domain="file"):
    """Plant a blob of the bytes 0, 1, … n - 1 under its true id."""
    raw = bytes(range(n))
    blob = BlobId(blake3(domain.encode() + b"\0" + raw).hexdigest())
    return plant(repo, [Entry(blob, raw=raw, domain=domain)]), blob


def chain(length, codec):
    """Blob i stands on blob i + 1; the last one is plain."""
    if codec == DERIVED:
        links = [derived(fake(i + 1), side([fake(i + 2)], [0])) for i in range(length)]
        return [*links, Entry(fake(length + 1), raw=RAW, domain=FOUR)]
    xor = zstandard.ZstdCompressor().compress(RAW)
    links = [Entry(fake(i + 1), raw=RAW, codec=codec, base=fake(i + 2), payload=xor) for i in range(length)]
    return [*links, Entry(fake(length + 1), raw=RAW)]


def cycle(size, codec):
    """Blob i stands on blob i + 1; the last one on the first."""
    links = chain(size, codec)[:-2]
    if codec == DERIVED:
        return [*links, derived(fake(size), side([fake(1)], [0]))]
    return [*links, Entry(fake(size), raw=RAW, codec=codec, base=fake(1), payload=b"", lengths=[0])]


@dataclass(frozen=True)
class HostileEntry:
    """An entry of blob 1, and the errors that reading it gives with its pack's index and without.

    Without an index the pack is scanned; one malformed prefix and it holds nothing.
    """

    entry: Entry
    kind: ErrorKind
    unindexed: ErrorKind


def _same(kind: ErrorKind, entry: Entry) -> HostileEntry:
    return HostileEntry(entry, kind, kind)


def _scanned(kind: ErrorKind, entry: Entry) -> HostileEntry:
    return HostileEntry(entry, kind, ErrorKind.MISSING_OBJECT)


_BOMB = zstandard.ZstdCompressor().compress(bytes(99_999))[:40]
_TABLES = b"\1\0\0\0\0\0"
_HUGE = Entry(
    fake(1), raw_bytes=2**48, log2=26, domain=f"tensor U8 [{2**48}]", lengths=[0] * 3
)  # not the chunks that it needs
_K = ErrorKind

ENTRIES: dict[str, HostileEntry] = {
    "missing base": _same(_K.MISSING_BASE, Entry(fake(1), raw=RAW, codec=2, base=fake(9), payload=b"x")),
    "missing input": _same(_K.MISSING_BASE, derived(fake(1), side([fake(9)], [0]))),
    "delta without base": _same(_K.CORRUPT, Entry(fake(1), raw=RAW, codec=2, payload=b"x")),
    "plain with base": _same(_K.CORRUPT, Entry(fake(1), raw=RAW, codec=0, base=fake(2))),
    "raw payload too short": _same(_K.CORRUPT, Entry(fake(1), raw=RAW, payload=b"short")),
    "raw payload too long": _same(_K.CORRUPT, Entry(fake(1), raw=RAW, payload=bytes(17))),
    "payload past the end": _scanned(_K.TRUNCATED, Entry(fake(1), raw=RAW, lengths=[900])),
    "lengths overflow": _same(_K.MISSING_OBJECT, Entry(fake(1), raw=bytes(200_000), lengths=[2**32 - 1] * 4)),
    "wrong checksum": _same(_K.HASH_MISMATCH, Entry(fake(1), raw=RAW, hashes=[1])),
    "2^48 bytes": _same(_K.MISSING_OBJECT, _HUGE),
    "domain lies": _scanned(_K.BAD_HEADER, Entry(fake(1), raw=RAW, domain="tensor U8 [17]")),
    "domain with leading zero": _scanned(_K.BAD_OBJECT, Entry(fake(1), raw=RAW, domain="tensor U8 [016]")),
    "domain is nonsense": _scanned(_K.BAD_OBJECT, Entry(fake(1), raw=RAW, domain="tensor [] U8")),
    "domain of unknown dtype": _scanned(
        _K.UNSUPPORTED_DTYPE, Entry(fake(1), raw=RAW, domain="tensor Q8 [16]")
    ),
    "domain of commit": _scanned(_K.BAD_OBJECT, Entry(fake(1), raw=RAW, domain="commit")),
    "domain of too many dimensions": _same(
        _K.MISSING_OBJECT, Entry(fake(1), domain="tensor U8 [0" + ",9" * 600 + "]")
    ),
    "codec 5": _same(_K.MISSING_OBJECT, Entry(fake(1), raw=RAW, codec=5)),
    "plain planes of nothing": _same(_K.CORRUPT, Entry(fake(1), raw=RAW, codec=1, payload=b"\0")),
    "bomb": _same(_K.CORRUPT, Entry(fake(1), raw=RAW, codec=1, payload=_BOMB)),
    "side of a plain codec": _same(_K.BAD_PAYLOAD, Entry(fake(1), raw=RAW, codec=1, side=b"x", payload=b"x")),
    "exponents of bytes": _same(
        _K.BAD_PAYLOAD, Entry(fake(1), raw=RAW, codec=3, side=_TABLES, payload=b"\2")
    ),
    "exponents without tables": _same(
        _K.BAD_PAYLOAD, Entry(fake(1), raw=RAW, domain="tensor BF16 [8]", codec=3, payload=b"\2")
    ),
    "derived file": _same(_K.BAD_OBJECT, derived(fake(1), side([fake(2)], [0]), domain="file")),
    "derived integers": _same(_K.BAD_OBJECT, derived(fake(1), side([fake(2)], [0]), domain="tensor I32 [4]")),
    "derived from bytes": _same(_K.CORRUPT, derived(fake(1), side([fake(2)], [0]))),
    "derived without side": _same(_K.BAD_OBJECT, derived(fake(1), b"")),
    "deep side": _same(_K.BAD_OBJECT, derived(fake(1), b"[" * 100_000)),
    "unknown operator": _same(_K.UNSUPPORTED_FEATURE, derived(fake(1), side([fake(2)], [0], op="lineal"))),
    "program without inputs": _same(_K.BAD_OBJECT, derived(fake(1), side([], []))),
    "program of nobody": _same(_K.BAD_OBJECT, derived(fake(1), side([fake(2)], [1]))),
    "another blob": _same(_K.MISSING_OBJECT, Entry(fake(7), raw=RAW)),
}
"""Planted beside blob 2, which is 16 plain bytes."""


# Small objects


def framed(body: bytes, *, version=1, method=1, claimed=0) -> bytes:
    """The file of a small object, whose header claims a length."""
    return struct.pack("<4sBBHI", b"DVXO", version, method, 0, claimed) + body


_KILOBYTES = zstandard.ZstdCompressor().compress(bytes(64 << 20))
_UNKNOWN_LENGTH = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(64 << 20))

FRAMES: dict[str, tuple[bytes, ErrorKind]] = {
    "bomb that claims 1 MiB": (framed(_KILOBYTES, claimed=1 << 20), _K.CORRUPT),
    "bomb that claims the limit": (framed(_KILOBYTES, claimed=256 << 20), _K.CORRUPT),
    "bomb that claims more": (framed(_KILOBYTES, claimed=(256 << 20) + 1), _K.CORRUPT),
    "bomb that claims most": (framed(_KILOBYTES, claimed=2**32 - 1), _K.CORRUPT),
    "frame of unknown length": (framed(_UNKNOWN_LENGTH, claimed=100), _K.CORRUPT),
    "version 2": (framed(b"", version=2, method=0), _K.UNSUPPORTED_VERSION),
    "version 255": (framed(b"", version=255, method=0), _K.UNSUPPORTED_VERSION),
}
"""A kilobyte of zstd that unfolds to 64 MiB, under a header that claims something else; later versions."""


# Manifests


def manifest(files=(), tensors=None) -> bytes:
    return json.dumps({"files": files, "tensors": tensors or {}}).encode()


def plain(path, blob=ZERO, size=0, **more):
    """A file of a manifest."""
    return {"path": path, "blob": blob, "size": size, "executable": False, **more}


def _of_shape(shape: bytes) -> bytes:
    tensor = b'{"blob":"' + b"0" * 64 + b'","dtype":"F32","shape":[' + shape + b"]}"
    return b'{"files":[],"tensors":{"a":' + tensor + b"}}"


MANIFESTS: dict[str, tuple[bytes, ErrorKind]] = {
    "the same path twice": (manifest([plain("a"), plain("a")]), _K.BAD_PATH),
    "paths that differ in case": (manifest([plain("a/B"), plain("A/b")]), _K.BAD_PATH),
    "a file and a folder": (manifest([plain("a"), plain("a/b")]), _K.BAD_PATH),
    "a folder in another case": (manifest([plain("A"), plain("a/b")]), _K.BAD_PATH),
    "negative size": (manifest([plain("a", size=-1)]), _K.BAD_OBJECT),
    "size is true": (manifest([plain("a", size=True)]), _K.BAD_OBJECT),
    "size is huge": (manifest([plain("a", size=2**63)]), _K.BAD_OBJECT),
    "more fields": (manifest([plain("a", link="/etc")]), _K.BAD_OBJECT),
    "blob and header": (manifest([plain("a", header=ZERO)]), _K.BAD_OBJECT),
    "not an id": (manifest([plain("a", blob="../../x")]), _K.BAD_OBJECT),
    "short id": (manifest([plain("a", blob="0" * 63)]), _K.BAD_OBJECT),
    "id in capitals": (manifest([plain("a", blob="A" * 64)]), _K.BAD_OBJECT),
    "path is a number": (manifest([plain(5)]), _K.BAD_OBJECT),
    "unknown tensor": (
        manifest([{"path": "a", "header": ZERO, "size": 9, "executable": False, "tensors": ["x"]}]),
        _K.BAD_OBJECT,
    ),
    "not a list": (manifest({"a": 1}), _K.BAD_OBJECT),
    "executable is 1": (manifest([plain("a") | {"executable": 1}]), _K.BAD_OBJECT),
    "nothing": (b"", _K.BAD_OBJECT),
    "a list": (b"[]", _K.BAD_OBJECT),
    "null": (b"null", _K.BAD_OBJECT),
    "no fields": (b"{}", _K.BAD_OBJECT),
    "not UTF-8": (b"\xff", _K.BAD_OBJECT),
    "a key twice": (b'{"files":[],"files":[],"tensors":{}}', _K.BAD_OBJECT),
    "a hundred thousand levels": (b"[" * 100_000, _K.BAD_OBJECT),
    "forty levels": (b'{"files":[],"tensors":{},"x":' + b"[" * 40 + b"]" * 40 + b"}", _K.BAD_OBJECT),
    "a dimension with an exponent": (_of_shape(b"1e3"), _K.BAD_OBJECT),
    "2^48 thirty times": (_of_shape(b"281474976710656," * 30 + b"2"), _K.BAD_OBJECT),
}
"""None of them is a commit either."""

PATHS: dict[str, ErrorKind] = dict.fromkeys(
    [
        "../x",
        "a/../../x",
        "/etc/passwd",
        "..",
        ".",
        "",
        "a//b",
        "a/./b",
        "./a",
        "a/",
        "C:\\x",
        "a\\..\\b",
        "C:x",
        "nul\0",
        "a\nb",
        ".dvx/config.toml",
        ".DVX/x",
        ".dvx",
        "x" * 1025,
        "a\x7f",
    ],
    ErrorKind.BAD_PATH,
) | {"\ud800": ErrorKind.BAD_OBJECT}
"""Paths that lead out of a directory, or cannot live in every one."""
