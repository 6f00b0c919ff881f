"""What storing a checkpoint gives, whether it was read from disk or computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from deltavcs.objects.incoming import AddedBlob
from deltavcs.objects.model import Manifest, TensorEntry, TensorStats
from deltavcs.oid import BlobId


@dataclass(frozen=True, slots=True)
class Ingested:
    """A checkpoint whose blobs are stored.

    Attributes:
        stats: per tensor, the difference from the base.
        raw_bytes: bytes of all files.
        packed: tensors whose numbers are no weights by themselves; their difference has no norm.
        overflowed: by tensor, how many finite values became Inf or NaN when it was computed.
    """

    manifest: Manifest
    stats: Mapping[str, TensorStats]
    raw_bytes: int
    packed: frozenset[str] = frozenset()
    overflowed: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class BlobTally:
    """Collects the blobs of a checkpoint as they are added.

    Attributes:
        files: by path, those that were added.
        tensors: by manifest key.
        stats: per tensor, the difference from the base.
    """

    files: dict[str, BlobId] = field(default_factory=dict)
    tensors: dict[str, TensorEntry] = field(default_factory=dict)
    stats: dict[str, TensorStats] = field(default_factory=dict)

    def note_file(self, path: str, added: AddedBlob) -> None:
        """Take a file, or the header of one with tensors."""
        self.files[path] = added.blob

    def note_tensor(self, key: str, dtype: str, shape: tuple[int, ...], added: AddedBlob) -> None:
        """Take a tensor."""
        self.tensors[key] = TensorEntry(added.blob, dtype, shape)
        if added.difference is not None:
            d = added.difference
            self.stats[key] = TensorStats(d.changed, d.elements, d.l2)


def counterpart(base: Manifest | None, key: str, dtype: str, shape: tuple[int, ...]) -> BlobId | None:
    """The blob of the same tensor in a base, if it has one of this dtype and shape."""
    old = base.tensors.get(key) if base is not None else None
    return old.blob if old is not None and (old.dtype, old.shape) == (dtype, shape) else None
