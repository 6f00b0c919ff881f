"""Storing a view that was computed rather than read from disk.

Derived tensors cost kilobytes (spec §4.1); other computed tensors are stored as deltas.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from deltavcs.checkpoint.ingest import Ingested
from deltavcs.checkpoint.view import Computed, Content, View, ViewFile
from deltavcs.objects.domain import FILE_DOMAIN
from deltavcs.objects.incoming import MemorySource, NewBlob
from deltavcs.objects.model import FileEntry, Manifest, TensorEntry, TensorStats
from deltavcs.objects.transaction import Transaction
from deltavcs.oid import BlobId
from deltavcs.resources import Resources


@dataclass(frozen=True, slots=True)
class _FileTag:
    file: ViewFile


@dataclass(frozen=True, slots=True)
class _ComputedSource:
    """A computed content as bytes to be stored."""

    content: Content
    computed: Computed

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self.content.size

    def read_into(self, start: int, out: memoryview) -> None:
        """Fill `out` with the bytes from `start` on."""
        self.computed.read_into(start, out, self.content.dtype)


def store_view(
    transaction: Transaction,
    view: View,
    *,
    base: Manifest | None,
    against: Manifest | None = None,
    resources: Resources,
) -> Ingested:
    """Store what a view computes and return its manifest.

    Each derived tensor is computed once, to learn its id, its chunks' checksums and its difference from
    `base`; only the operator is kept. Computed tensors are stored as deltas.

    Args:
        base: what differences are measured from.
        against: what computed tensors are coded against; `base` if None.
    """
    files: dict[str, BlobId] = {}
    tensors = {
        k: TensorEntry(c.blob, c.dtype, c.shape) for k, c in view.tensors.items() if c.blob is not None
    }
    stats: dict[str, TensorStats] = {}
    done = stored = 0
    for added in transaction.add_blobs(_new_blobs(view, base, against or base)):
        if isinstance(added.tag, _FileTag):
            files[added.tag.file.path] = added.blob
        else:
            key, content = added.tag
            tensors[key] = TensorEntry(added.blob, content.dtype, content.shape)
            if added.difference is not None:
                stats[key] = added.difference
            done += added.raw_bytes
            resources.progress("computing", done, view.size)
        stored += added.stored_bytes
    entries = tuple(
        FileEntry(f.path, f.size, f.blob or files[f.path], f.keys, executable=f.executable)
        for f in view.files
    )
    return Ingested(Manifest(entries, tensors), stats, view.size, stored)


def _new_blobs(view: View, base: Manifest | None, against: Manifest | None) -> Iterator[NewBlob]:
    for file in view.files:
        if file.data is not None:
            yield NewBlob(_FileTag(file), FILE_DOMAIN, MemorySource(file.data))
    for key, content in view.tensors.items():
        if content.derivation is not None:
            yield NewBlob(
                (key, content),
                content.domain,
                None,
                derivation=content.derivation,
                compare=_counterpart(base, key, content),
            )
        elif content.computed is not None:
            old = _counterpart(against, key, content)
            yield NewBlob(
                (key, content),
                content.domain,
                _ComputedSource(content, content.computed),
                bases=() if old is None else (old,),
                compare=_counterpart(base, key, content),
            )


def _counterpart(base: Manifest | None, key: str, content: Content) -> BlobId | None:
    old = base.tensors.get(key) if base is not None else None
    return old.blob if old is not None and (old.dtype, old.shape) == (content.dtype, content.shape) else None
