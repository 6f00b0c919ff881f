"""Small objects as files: framing, hashing, compression (spec §3). No I/O here."""

from __future__ import annotations

import struct

import zstandard
from blake3 import blake3

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, FormatError, IntegrityError

MAX_OBJECT_BYTES = 256 << 20
MAX_STORED_BYTES = MAX_OBJECT_BYTES + 4096
_HEADER = struct.Struct("<4sBBHI")
_MAGIC = b"DVXO"
_LEVEL = 3


def object_key(oid: str) -> str:
    """Storage key of a small object."""
    return f"objects/{oid[:2]}/{oid[2:]}"


def frame_object(domain: str, content: bytes) -> tuple[str, bytes]:
    """Id and file bytes of a small object.

    Raises:
        FormatError: `limit-exceeded` over 256 MiB.
    """
    decoded = domain.encode("ascii") + b"\0" + content
    if len(decoded) > MAX_OBJECT_BYTES:
        raise FormatError(f"a {domain} of {len(decoded)} bytes", kind=ErrorKind.LIMIT_EXCEEDED)
    packed = zstandard.ZstdCompressor(level=_LEVEL).compress(decoded)
    body, method = (packed, 1) if len(packed) < len(decoded) else (decoded, 0)
    return blake3(decoded).hexdigest(), _HEADER.pack(_MAGIC, 1, method, 0, len(decoded)) + body


def unframe_object(oid: str, data: bytes) -> tuple[str, bytes]:
    """Domain and content of a small object, proved to be the one called `oid`.

    Raises:
        FormatError: `unsupported-version` for a later version.
        IntegrityError: `corrupt` or `hash-mismatch` for anything else that is wrong.
    """
    if len(data) < _HEADER.size or data[:4] != _MAGIC:
        raise _damaged(oid, "no object magic")
    _, version, method, zero, size = _HEADER.unpack_from(data)
    if version != 1:
        raise FormatError(f"object {oid[:12]} has version {version}", kind=ErrorKind.UNSUPPORTED_VERSION)
    if method > 1 or zero or size > MAX_OBJECT_BYTES:
        raise _damaged(oid, "malformed header")
    body = data[_HEADER.size :]
    decoded = _inflate(oid, body, size) if method else body
    if len(decoded) != size:
        raise _damaged(oid, "wrong length")
    if blake3(decoded).hexdigest() != oid:
        raise IntegrityError(f"object {oid[:12]} does not hash to its id", kind=ErrorKind.HASH_MISMATCH)
    domain, separator, content = decoded.partition(b"\0")
    if not separator:
        raise _damaged(oid, "no domain")
    return domain.decode("ascii", "replace"), content


def _inflate(oid: str, body: bytes, size: int) -> bytes:
    try:
        # A frame that announces more than the header is a bomb; one that announces nothing is not ours.
        if zstandard.frame_content_size(body) != size:
            raise _damaged(oid, "frame and header disagree about the length")
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=size)
    except zstandard.ZstdError as exc:
        raise _damaged(oid, str(exc)) from exc


def _damaged(oid: str, why: str) -> IntegrityError:
    return IntegrityError(
        f"object {oid[:12]} is damaged: {why}",
        kind=ErrorKind.CORRUPT,
        advice=Advice.RESTORE_FILE,
    )
