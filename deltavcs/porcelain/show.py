"""One commit in full."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deltavcs.adapters.adapter_config import read_adapter_config
from deltavcs.adapters.foreign_loras import foreign_lora_in
from deltavcs.adapters.module_updates import ModuleUpdate, module_updates
from deltavcs.brief import brief
from deltavcs.errors import InvalidInputError
from deltavcs.objects.model import Commit, Kind, Manifest
from deltavcs.oid import CommitId, ManifestId
from deltavcs.repo import Repository
from deltavcs.steps.contents import ShownFile, ShownTensor, files_of, tensors_of
from deltavcs.steps.naming import name_of, names_by_commit
from deltavcs.steps.scorebook import ScoreBook, ScoreLine


@dataclass(frozen=True, slots=True)
class ShownParent:
    """A parent: its name, id and role."""

    name: str
    commit: CommitId
    role: str

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class Shown:
    """A commit with its tensors and files.

    Attributes:
        stored_bytes: of its blobs in packs, shared ones included; None where a blob is missing.
        changed_share: share of the weights that differ from the base.
        l2: norm of its diff vector; of a LoRA adapter that of all its products together.
        modules: of a LoRA adapter, what it adds to each weight, by the product of its factors.
        adapter_type: of an adapter, such as `LORA (DoRA)` or `IA3`; empty if its configuration is malformed.
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
    modules: tuple[ModuleUpdate, ...] = ()
    adapter_type: str = ""

    __repr__ = brief


def _adapter_type(repo: Repository, value: Commit, manifest: Manifest) -> str:
    if value.kind is not Kind.ADAPTER:
        return ""
    try:
        return read_adapter_config(repo.objects, manifest).kind
    except InvalidInputError:
        return foreign_lora_in(manifest) or ""


def show(repo: Repository, revision: str) -> Shown:
    """Everything that is known of a commit.

    Raises:
        NotFoundError: `unknown-revision`, with the fact `similar` where there are such names.
        InvalidInputError: `ambiguous-revision`, `bad-revision`.
    """
    commit = repo.resolve(revision)
    value = repo.commit(commit)
    manifest = repo.objects.get_manifest(value.manifest)
    stats = repo.objects.get_stats(value.stats) if value.stats else None
    modules = _modules(repo, value, manifest)
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
        changed_share=stats.changed_share if stats else None,
        l2=stats.l2 if stats else _norm(modules),
        tensors=tensors_of(repo, manifest, stats),
        files=files_of(manifest),
        scores=ScoreBook(repo).of(value),
        modules=modules,
        adapter_type=_adapter_type(repo, value, manifest),
    )


def _modules(repo: Repository, value: Commit, manifest: Manifest) -> tuple[ModuleUpdate, ...]:
    found = module_updates(repo.objects, manifest) if value.kind is Kind.ADAPTER else None
    return tuple(found.describe()) if found is not None else ()


def _norm(modules: Sequence[ModuleUpdate]) -> float | None:
    norms = [m.l2 for m in modules if m.l2 is not None]
    return math.hypot(*norms) if norms and len(norms) == len(modules) else None


def _parents(repo: Repository, value: Commit) -> tuple[ShownParent, ...]:
    return tuple(ShownParent(name_of(repo, p.commit), p.commit, p.role) for p in value.parents)


def _stored(repo: Repository, manifest: Manifest) -> int:
    blobs = {t.blob for t in manifest.tensors.values()} | {f.blob for f in manifest.files}
    places = (repo.objects.packs.locate(b) for b in blobs)
    return sum(p.entry_bytes for p in places if p is not None)
