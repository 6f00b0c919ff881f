"""Object ids: BLAKE3-256 over content, 64 lower-case hex digits in text (spec §2)."""

from __future__ import annotations

import re
from typing import NewType

from blake3 import blake3

from deltavcs.errors import ErrorKind, FormatError

BlobId = NewType("BlobId", str)
ManifestId = NewType("ManifestId", str)
CommitId = NewType("CommitId", str)
PackId = NewType("PackId", str)

OID_BYTES = 32
OID_HEX = 64

_HEX = re.compile(r"[0-9a-f]{64}\Z")


def is_oid(text: str) -> bool:
    """True if `text` is a full id: 64 lower-case hex digits."""
    return _HEX.match(text) is not None


def parse_oid(text: object) -> str:
    """Return `text` if it is a full id.

    Raises:
        FormatError: `bad-object` if it is anything else.
    """
    if not isinstance(text, str) or not is_oid(text):
        raise FormatError(f"not an object id: {text!r}", kind=ErrorKind.BAD_OBJECT)
    return text


def start_hash(domain: str) -> blake3:
    """A hasher that has seen `domain` and a zero byte; the content follows (spec §2)."""
    return blake3(domain.encode() + b"\0")


def hash_bytes(domain: str, data: bytes | memoryview) -> str:
    """BLAKE3-256 of `domain`, a zero byte and `data`: the id of a small object (spec §2.3)."""
    hasher = start_hash(domain)
    hasher.update(data)
    return hasher.hexdigest()
