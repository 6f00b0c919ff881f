"""From a checkpoint on disk to a manifest: which blobs to store, against which bases."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from deltavcs.advice import Advice
from deltavcs.checkpoint.source import LazyFile, SourceCheckpoint, SourceFile, SourceTensor
from deltavcs.errors import ErrorKind, IntegrityError, InvalidInputError, NotFoundError
from deltavcs.objects.domain import FILE_DOMAIN, tensor_domain
from deltavcs.objects.incoming import Added, MemorySource, NewBlob
from deltavcs.objects.model import FileEntry, Manifest, TensorEntry, TensorStats
from deltavcs.objects.store import Transaction
from deltavcs.oid import BlobId
from deltavcs.resources import Resources


@dataclass(frozen=True, slots=True)
class Ingested:
    """What storing a checkpoint gave.

    Attributes:
        stats: per tensor, the difference from the base.
        raw_bytes: bytes of all files.
        stored_bytes: bytes that were added to the repository's packs.
    """

    manifest: Manifest
    stats: Mapping[str, TensorStats]
    raw_bytes: int
    stored_bytes: int


def ingest(
    transaction: Transaction,
    source: SourceCheckpoint,
    *,
    base: Manifest | None,
    previous: Manifest | None,
    resources: Resources,
) -> Ingested:
    """Store the blobs of a checkpoint.

    Args:
        transaction: where they go.
        source: an open checkpoint.
        base: tensors to code against and to measure the difference from.
        previous: an earlier checkpoint of the same run, to code against where that is clearly smaller.
        resources: threads, memory, progress.

    Raises:
        InvalidInputError: `bad-checkpoint` if there is no tensor in it.
        ConflictError: `source-changed` if a file was written to meanwhile.
    """
    if not source.tensors:
        raise InvalidInputError(
            f"{source.root} holds no safetensors weights",
            kind=ErrorKind.BAD_CHECKPOINT,
            advice=Advice.GIVE_WEIGHTS,
        )
    files: dict[str, BlobId] = {}
    tensors: dict[str, TensorEntry] = {}
    stats: dict[str, TensorStats] = {}
    done = stored = 0
    total = source.size
    with _changes_first(source):
        for added in transaction.add_blobs(_new_blobs(source, base, previous)):
            tag = added.tag
            if isinstance(tag, SourceFile):
                files[tag.path] = added.blob
            else:
                key, tensor = tag
                tensors[key] = TensorEntry(added.blob, tensor.dtype, tensor.shape)
                _note_difference(stats, key, added)
            done += added.raw_bytes
            stored += added.stored_bytes
            resources.progress("storing", done, total)
    source.check_unchanged()
    entries = tuple(
        FileEntry(f.path, f.size, files[f.path], f.keys, executable=f.executable) for f in source.files
    )
    return Ingested(Manifest(entries, tensors), stats, total, stored)


@contextlib.contextmanager
def _changes_first(source: SourceCheckpoint) -> Iterator[None]:
    """Say that a file changed, rather than what could not be read because of that."""
    try:
        yield
    except (IntegrityError, NotFoundError):
        source.check_unchanged()
        raise


def _note_difference(stats: dict[str, TensorStats], key: str, added: Added) -> None:
    if added.difference is not None:
        d = added.difference
        stats[key] = TensorStats(d.changed, d.elements, d.l2)


def _new_blobs(
    source: SourceCheckpoint, base: Manifest | None, previous: Manifest | None
) -> Iterator[NewBlob]:
    olds = [m for m in (base, previous) if m is not None]
    for file in source.files:
        if file.header is None:
            yield NewBlob(file, FILE_DOMAIN, LazyFile(file.location, file.size))
            continue
        yield NewBlob(file, FILE_DOMAIN, MemorySource(file.header))
        for key in file.keys or ():
            tensor = source.tensors[key]
            yield NewBlob(
                (key, tensor),
                tensor_domain(tensor.dtype, tensor.shape),
                tensor.data,
                bases=tuple(m.tensors[key].blob for m in olds if _same_rows(m.tensors.get(key), tensor)),
                compare=_counterpart(base, key, tensor),
            )


def _same_rows(old: TensorEntry | None, new: SourceTensor) -> bool:
    return old is not None and old.dtype == new.dtype and old.shape[1:] == new.shape[1:]


def _counterpart(base: Manifest | None, key: str, tensor: SourceTensor) -> BlobId | None:
    old = base.tensors.get(key) if base is not None else None
    if old is None or old.dtype != tensor.dtype or old.shape != tensor.shape:
        return None
    return old.blob


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Why a checkpoint is not a fine-tune of a base: tensors by name."""

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    shapes: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.shapes)

    def describe(self, limit: int = 3) -> str:
        """A clause for an error message."""
        parts = []
        for what, found in (
            ("has another shape", self.shapes),
            ("is missing", self.missing),
            ("is not in the base", self.extra),
        ):
            if found:
                more = f" and {len(found) - limit} more" if len(found) > limit else ""
                parts.append(f"{', '.join(found[:limit])}{more} {what}")
        return "; ".join(parts)


def mismatch(source: SourceCheckpoint, base: Manifest) -> Mismatch:
    """How names and shapes differ; rows may differ where the rest of the shape agrees."""
    old = base.primary
    new = {k: t for k, t in source.tensors.items() if "::" not in k}
    return Mismatch(
        missing=tuple(sorted(old.keys() - new.keys())),
        extra=tuple(sorted(new.keys() - old.keys())),
        shapes=tuple(
            f"{k} {list(new[k].shape)} (base {list(old[k].shape)})"
            for k in sorted(old.keys() & new.keys())
            if len(new[k].shape) != len(old[k].shape) or new[k].shape[1:] != old[k].shape[1:]
        ),
    )
