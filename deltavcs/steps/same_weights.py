"""Checkpoints of the history that hold the very same weights, whatever their names and their other files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from deltavcs.checkpoint.source import SourceCheckpoint
from deltavcs.errors import IntegrityError
from deltavcs.history.walk import walk
from deltavcs.objects.domain import hash_blob, tensor_domain
from deltavcs.objects.model import Commit, Kind, Manifest
from deltavcs.oid import BlobId, CommitId, ManifestId
from deltavcs.repo import Repository
from deltavcs.steps.naming import tips

WeightsKey = tuple[BlobId, ...]


def weights_key(manifest: Manifest) -> WeightsKey:
    """The same for checkpoints whose own tensors are the same bytes, under whatever names."""
    return tuple(sorted(t.blob for t in manifest.primary.values()))


def checkpoints(repo: Repository, *, adapters: bool = False) -> Iterator[tuple[CommitId, Manifest]]:
    """Whole checkpoints of the history, or its adapters, each once, newest first.

    What several commits hold stands for the first base among them, or else for the first commit.
    """
    chosen: dict[ManifestId, tuple[bool, int, CommitId]] = {}
    for commit, value in walk(repo.objects, tips(repo)):
        if (value.kind is Kind.ADAPTER) is adapters:
            rank = _rank(commit, value)
            chosen[value.manifest] = min(chosen.get(value.manifest, rank), rank)
    for manifest, (_, _, commit) in chosen.items():
        yield commit, repo.objects.get_manifest(manifest)


def without_copies(repo: Repository, commits: Iterable[CommitId]) -> list[CommitId]:
    """The commits in their order, those with the same weights once: as the first base among them."""
    chosen: dict[WeightsKey, tuple[bool, int, CommitId]] = {}
    for commit in commits:
        value = repo.commit(commit)
        rank, key = _rank(commit, value), weights_key(repo.objects.get_manifest(value.manifest))
        chosen[key] = min(chosen.get(key, rank), rank)
    return [commit for _, _, commit in chosen.values()]


def same_weights(repo: Repository, manifest: Manifest, *, adapter: bool) -> CommitId | None:
    """The commit that holds the weights of a manifest already; None if there is none.

    It is a remark: damage in other commits does not keep a checkpoint from being stored, which may mend it.

    Args:
        manifest: of blobs that may not be published yet.
        adapter: look among adapters, or among whole checkpoints.
    """
    key = weights_key(manifest)
    if any(repo.objects.packs.locate(blob) is None for blob in key):
        return None
    try:
        found = [c for c, m in checkpoints(repo, adapters=adapter) if weights_key(m) == key] if key else []
        return next(iter(without_copies(repo, found)), None)
    except IntegrityError:
        return None


def is_copy(source: SourceCheckpoint, manifest: Manifest) -> bool:
    """True if a checkpoint on disk has the very weights of a manifest. Reads up to the first that differs."""
    wanted = set(weights_key(manifest))
    ours = [t for k, t in source.tensors.items() if "::" not in k]
    if len(ours) != len(manifest.primary):
        return False
    return all(
        hash_blob(tensor_domain(t.dtype, t.shape), t.data.size, t.data.read_into) in wanted
        for t in sorted(ours, key=lambda t: t.data.size)
    )


def _rank(commit: CommitId, value: Commit) -> tuple[bool, int, CommitId]:
    return value.kind is not Kind.BASE, value.time, commit
