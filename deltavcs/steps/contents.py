"""What a commit holds, tensor by tensor and file by file: what it is, what it costs, how far it moved."""

from __future__ import annotations

from dataclasses import dataclass

from deltavcs.brief import brief
from deltavcs.codec import codec_word
from deltavcs.objects.model import Manifest, Stats
from deltavcs.repo import Repository


@dataclass(frozen=True, slots=True)
class ShownTensor:
    """A tensor: what it is, how it is stored, and how it differs from the base."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    blob: str
    raw_bytes: int
    stored_bytes: int | None
    codec: str | None
    changed_share: float | None
    l2: float | None

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class ShownFile:
    """A file of the checkpoint."""

    path: str
    size: int
    n_tensors: int | None


def tensors_of(repo: Repository, manifest: Manifest, stats: Stats | None) -> tuple[ShownTensor, ...]:
    """The tensors of a manifest by name, with their differences from the base where there are any."""
    differences = stats.tensors if stats is not None else {}
    shown = []
    for name in sorted(manifest.tensors):
        entry, where = manifest.tensors[name], repo.objects.packs.locate(manifest.tensors[name].blob)
        moved = differences.get(name)
        shown.append(
            ShownTensor(
                name=name,
                dtype=entry.dtype,
                shape=entry.shape,
                blob=entry.blob,
                raw_bytes=entry.size,
                stored_bytes=where.entry_bytes if where else None,
                codec=codec_word(where.codec) if where else None,
                changed_share=moved.changed / moved.elements if moved and moved.elements else None,
                l2=moved.l2 if moved else None,
            )
        )
    return tuple(shown)


def files_of(manifest: Manifest) -> tuple[ShownFile, ...]:
    """The files of a manifest, in its order."""
    return tuple(
        ShownFile(f.path, f.size, len(f.tensors) if f.tensors is not None else None) for f in manifest.files
    )
