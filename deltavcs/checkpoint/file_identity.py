"""The identity of a file's content, from ids that are known or from the bytes on disk.

Of a plain file it is the id of its blob (spec §2); of a safetensors file the hash of the ids of its header
and of its tensors, in their order, so that a checkout knows it without reading what it wrote.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from deltavcs.checkpoint.layout import is_safetensors
from deltavcs.checkpoint.view import View, ViewFile
from deltavcs.errors import FormatError, InvalidInputError
from deltavcs.objects.domain import FILE_DOMAIN, hash_blob, tensor_domain
from deltavcs.oid import hash_bytes
from deltavcs.storage import FileReader
from deltavcs.tensors.safetensors import header_length, parse_header

_DOMAIN = "checkout-file"


def identity_in_view(view: View, file: ViewFile, computed: Mapping[str, str]) -> str | None:
    """The identity that a file of a view will have; None where a tensor is not computed yet.

    Args:
        computed: ids of tensors that have no blob, by key.
    """
    head = file.blob if file.data is None else hash_bytes(FILE_DOMAIN, file.data)
    if file.keys is None or head is None:
        return head
    ids = [view.tensors[k].blob or computed.get(k) for k in file.keys]
    known = [found for found in ids if found is not None]
    return _identity(head, known) if len(known) == len(ids) else None


def _identity(header: str, tensors: Sequence[str]) -> str:
    return hash_bytes(_DOMAIN, " ".join([header, *tensors]).encode())


def identity_on_disk(location: Path) -> str:
    """The identity of a file, from its bytes.

    Raises:
        NotFoundError, StorageError: it cannot be read.
    """
    with FileReader(location) as file:
        if is_safetensors(location.name):
            try:
                return _identity_of_tensors(file)
            except (FormatError, InvalidInputError):
                pass  # no safetensors file whatever its name says: bytes
        return hash_blob(FILE_DOMAIN, file.size, file.read_into)


def _identity_of_tensors(file: FileReader) -> str:
    length = header_length(file.read(0, min(8, file.size)), file.size)
    head = bytes(file.read(0, 8 + length))
    header = parse_header(head[8:], file.size)

    def hashed(begin: int, end: int, domain: str) -> str:
        start = header.n_bytes + begin
        return hash_blob(domain, end - begin, lambda at, out: file.read_into(start + at, out))

    ids = [hashed(s.begin, s.end, tensor_domain(s.dtype, s.shape)) for s in header.spans]
    return _identity(hash_bytes(FILE_DOMAIN, head), ids)


def stamp_of(location: Path) -> tuple[int, int, int] | None:
    """Size, modification and change time of a regular file; None for a link, a folder, or nothing."""
    try:
        found = os.lstat(location)
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns
