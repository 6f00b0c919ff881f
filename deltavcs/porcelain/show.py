"""`dvx show`: one commit in full."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deltavcs.objects.model import Commit, Manifest, Stats
from deltavcs.objects.pack import DERIVED
from deltavcs.oid import CommitId, ManifestId
from deltavcs.repo import Repository
from deltavcs.steps.naming import name_of, names_by_commit
from deltavcs.steps.score_lines import ScoreBook, ScoreLine

_CODECS = {0: "raw", 1: "plain", 2: "xor", 3: "exponent", 4: "delta", DERIVED: "derived"}


@dataclass(frozen=True, slots=True)
class ShownParent:
    """A parent: its name, id and role."""

    name: str
    commit: CommitId
    role: str


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


@dataclass(frozen=True, slots=True)
class ShownFile:
    """A file of the checkpoint."""

    path: str
    size: int
    n_tensors: int | None


@dataclass(frozen=True, slots=True)
class Shown:
    """A commit with its tensors and files.

    Attributes:
        stored_bytes: of its blobs in packs, shared ones included; None where a blob is missing.
        changed_share: share of the weights that differ from the base.
        l2: norm of its diff vector.
    """

    commit: CommitId
    kind: str
    names: tuple[str, ...]
    message: str
    author: str
    time: int
    task: str | None
    recipe: str | None
    metadata: Mapping[str, str]
    source: Mapping[str, Any]
    parents: tuple[ShownParent, ...]
    manifest: ManifestId
    n_tensors: int
    n_files: int
    raw_bytes: int
    stored_bytes: int
    changed_share: float | None
    l2: float | None
    tensors: tuple[ShownTensor, ...]
    files: tuple[ShownFile, ...]
    scores: tuple[ScoreLine, ...]


def show(repo: Repository, revision: str) -> Shown:
    """Everything that is known of a commit. Raises as `Repository.resolve` does."""
    commit = repo.resolve(revision)
    value = repo.commit(commit)
    manifest = repo.objects.get_manifest(value.manifest)
    stats = repo.objects.get_stats(value.stats) if value.stats else None
    tensors = tuple(_tensor(repo, manifest, stats, key) for key in sorted(manifest.tensors))
    return Shown(
        commit=commit,
        kind=str(value.kind),
        names=tuple(names_by_commit(repo).get(commit, ())),
        message=value.message,
        author=value.author,
        time=value.time,
        task=value.task,
        recipe=value.recipe,
        metadata=dict(value.metadata),
        source=dict(value.source),
        parents=_parents(repo, value),
        manifest=value.manifest,
        n_tensors=len(manifest.tensors),
        n_files=len(manifest.files),
        raw_bytes=manifest.size,
        stored_bytes=_stored(repo, manifest),
        changed_share=_share(stats),
        l2=_norm(stats),
        tensors=tensors,
        files=tuple(
            ShownFile(f.path, f.size, len(f.tensors) if f.tensors is not None else None)
            for f in manifest.files
        ),
        scores=ScoreBook(repo).of(value),
    )


def _parents(repo: Repository, value: Commit) -> tuple[ShownParent, ...]:
    return tuple(ShownParent(name_of(repo, p.commit), p.commit, p.role) for p in value.parents)


def _tensor(repo: Repository, manifest: Manifest, stats: Stats | None, key: str) -> ShownTensor:
    entry = manifest.tensors[key]
    where = repo.objects.packs.locate(entry.blob)
    found = stats.tensors.get(key) if stats else None
    return ShownTensor(
        name=key,
        dtype=entry.dtype,
        shape=entry.shape,
        blob=entry.blob,
        raw_bytes=entry.size,
        stored_bytes=where.entry_bytes if where else None,
        codec=_CODECS.get(where.codec) if where else None,
        changed_share=found.changed / found.elements if found and found.elements else None,
        l2=found.l2 if found else None,
    )


def _stored(repo: Repository, manifest: Manifest) -> int:
    blobs = {t.blob for t in manifest.tensors.values()} | {f.blob for f in manifest.files}
    places = (repo.objects.packs.locate(b) for b in blobs)
    return sum(p.entry_bytes for p in places if p is not None)


def _share(stats: Stats | None) -> float | None:
    elements = sum(s.elements for s in stats.tensors.values()) if stats else 0
    return sum(s.changed for s in stats.tensors.values()) / elements if stats and elements else None


def _norm(stats: Stats | None) -> float | None:
    if stats is None:
        return None
    return math.sqrt(sum(s.l2**2 for s in stats.tensors.values() if s.l2 is not None))
