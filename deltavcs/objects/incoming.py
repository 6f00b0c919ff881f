"""Blobs on their way in: where their bytes come from, and what became of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from deltavcs.objects.derivation import Derivation
from deltavcs.objects.model import TensorStats
from deltavcs.oid import BlobId
from deltavcs.storage import FileReader


class ByteSource(Protocol):
    """`size` bytes that can be read in ranges, from many threads."""

    @property
    def size(self) -> int:
        """Bytes in all."""
        ...

    def read_into(self, start: int, out: memoryview) -> None:
        """Fill `out` with the bytes from `start` on."""
        ...


@dataclass(frozen=True, slots=True)
class FileRange:
    """A range of an open file."""

    file: FileReader
    offset: int
    size: int

    def read_into(self, start: int, out: memoryview) -> None:
        """Fill `out`. Raises IntegrityError if the file has become shorter."""
        self.file.read_into(self.offset + start, out)


@dataclass(frozen=True, slots=True)
class MemorySource:
    """Bytes at hand."""

    data: Any

    @property
    def size(self) -> int:
        """Bytes in all."""
        return memoryview(self.data).nbytes

    def read_into(self, start: int, out: memoryview) -> None:
        """Copy from the bytes at hand."""
        out[:] = memoryview(self.data).cast("B")[start : start + len(out)]


@dataclass(frozen=True, slots=True)
class NewBlob:
    """A blob to be stored.

    Attributes:
        tag: given back with the result; the writer does not look at it.
        domain: what the bytes are (spec §2).
        source: where they come from; None for a derivation.
        bases: blobs to try as delta base, the most likely first. All must be in the repository.
        derivation: for a derived blob, how it is computed.
        compare: blob to measure the difference from, or None.
    """

    tag: Any
    domain: str
    source: ByteSource | None
    bases: tuple[BlobId, ...] = ()
    derivation: Derivation | None = None
    compare: BlobId | None = None


@dataclass(frozen=True, slots=True)
class AddedBlob:
    """A blob that is now stored or was already.

    Attributes:
        stored_bytes: what it added to the pack; 0 if it was there.
        difference: from `compare`, if that was asked for.
        nonfinite: it is derived, and holds Inf or NaN.
    """

    tag: Any
    blob: BlobId
    raw_bytes: int
    stored_bytes: int
    difference: TensorStats | None
    nonfinite: bool = False
