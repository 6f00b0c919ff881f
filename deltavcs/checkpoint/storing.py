"""Storing a view that was computed rather than read from disk.

Derived tensors cost kilobytes (spec §4.1); other computed tensors are stored as deltas.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from deltavcs.checkpoint.ingested import BlobTally, Ingested, counterpart
from deltavcs.checkpoint.overflow import OverflowWatch
from deltavcs.checkpoint.view import Computed, Content, View, ViewFile
from deltavcs.objects.domain import FILE_DOMAIN
from deltavcs.objects.incoming import MemorySource, NewBlob
from deltavcs.objects.model import FileEntry, Manifest, TensorEntry
from deltavcs.objects.transaction import Transaction
from deltavcs.resources import Resources


@dataclass(frozen=True, slots=True)
class _ComputedSource:
    """A computed content as bytes to be stored."""

    key: str
    content: Content
    computed: Computed
    watch: OverflowWatch

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self.content.size

    def read_into(self, start: int, out: memoryview) -> None:
        """Fill `out` with the bytes from `start` on."""
        self.computed.read_into(start, out, self.content.dtype)
        self.watch.look(self.key, self.content, start, out)


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
    tally, watch = BlobTally(), OverflowWatch(transaction.blobs)
    for key, content in view.tensors.items():
        if content.blob is not None:
            tally.tensors[key] = TensorEntry(content.blob, content.dtype, content.shape)
    done = 0
    for added in transaction.add_blobs(_new_blobs(view, base, against or base, watch)):
        if isinstance(added.tag, ViewFile):
            tally.note_file(added.tag.path, added)
        else:
            key, content = added.tag
            tally.note_tensor(key, content.dtype, content.shape, added)
            if added.nonfinite:
                watch.look_again(key, content)
            done += added.raw_bytes
            resources.progress("computing", done, view.size)
    entries = tuple(
        FileEntry(f.path, f.size, f.blob or tally.files[f.path], f.keys, executable=f.executable)
        for f in view.files
    )
    return Ingested(Manifest(entries, tally.tensors), tally.stats, view.size, overflowed=watch.counts)


def _new_blobs(
    view: View, base: Manifest | None, against: Manifest | None, watch: OverflowWatch
) -> Iterator[NewBlob]:
    for file in view.files:
        if file.data is not None:
            yield NewBlob(file, FILE_DOMAIN, MemorySource(file.data))
    for key, content in view.tensors.items():
        compare = counterpart(base, key, content.dtype, content.shape)
        if content.derivation is not None:
            yield NewBlob(
                (key, content),
                content.domain,
                None,
                derivation=content.derivation,
                compare=compare,
            )
        elif content.computed is not None:
            old = counterpart(against, key, content.dtype, content.shape)
            yield NewBlob(
                (key, content),
                content.domain,
                _ComputedSource(key, content, content.computed, watch),
                bases=() if old is None else (old,),
                compare=compare,
            )
