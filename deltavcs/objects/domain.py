"""Domains: the text hashed before a blob's bytes, which says what the bytes are (spec §2)."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable

from deltavcs.errors import ErrorKind, FormatError
from deltavcs.oid import BlobId, start_hash
from deltavcs.resources import SPAN_BYTES
from deltavcs.tensors.dtypes import dtype_of, n_bytes

FILE_DOMAIN = "file"
MAX_DOMAIN_BYTES = 1024
_SIZE = "(?:0|[1-9][0-9]{0,14})"
_TENSOR = re.compile(rf"tensor ([A-Z0-9_]{{2,16}}) (\[(?:{_SIZE}(?:,{_SIZE})*)?\])\Z")


def tensor_domain(dtype: str, shape: tuple[int, ...]) -> str:
    """The domain of a tensor blob, e.g. `tensor BF16 [2,3]`."""
    return f"tensor {dtype} [{','.join(map(str, shape))}]"


@functools.lru_cache(maxsize=1024)
def parse_domain(domain: str) -> tuple[str, tuple[int, ...]] | None:
    """Dtype and shape of a tensor domain; None for a file.

    Raises:
        FormatError: `bad-object` for anything else.
    """
    if domain == FILE_DOMAIN:
        return None
    found = _TENSOR.match(domain)
    if found is None or len(domain) > MAX_DOMAIN_BYTES:
        raise FormatError(f"malformed domain {domain[:80]!r}", kind=ErrorKind.BAD_OBJECT)
    dtype_of(found[1])
    return found[1], tuple(json.loads(found[2]))


def codec_dtype(domain: str) -> str:
    """The dtype by which the codec treats a blob: files are bytes."""
    tensor = parse_domain(domain)
    return "U8" if tensor is None else tensor[0]


def domain_bytes(domain: str) -> int | None:
    """Bytes a blob of this domain must have; None for a file."""
    tensor = parse_domain(domain)
    return None if tensor is None else n_bytes(*tensor)


def hash_blob(domain: str, size: int, read_into: Callable[[int, memoryview], None]) -> BlobId:
    """The id of a blob of `size` bytes, read block by block.

    Args:
        read_into: fills memory with the bytes from a position on; what it raises is passed on.
    """
    hasher = start_hash(domain)
    buffer = memoryview(bytearray(min(SPAN_BYTES, size)))
    for at in range(0, size, SPAN_BYTES):
        block = buffer[: min(SPAN_BYTES, size - at)]
        read_into(at, block)
        hasher.update(block)
    return BlobId(hasher.hexdigest())
