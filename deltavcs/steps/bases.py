"""Finding the base of a checkpoint: from what a checkout left, from the branch, or from the weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deltavcs.advice import Advice
from deltavcs.brief import brief
from deltavcs.checkpoint.base_search import PossibleBase, judge_bases
from deltavcs.checkpoint.marker import read_marker
from deltavcs.checkpoint.mismatch import mismatch
from deltavcs.checkpoint.source import SourceCheckpoint
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.history.walk import walk
from deltavcs.objects.model import Kind, Manifest, Role
from deltavcs.oid import CommitId
from deltavcs.repo import Repository
from deltavcs.steps.adapter_bases import (
    base_of_adapter,
    check_adapter_fits,
    foreign_lora_of,
    refuse_adapters_below,
)
from deltavcs.steps.naming import name_of, tips

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Base:
    """The base of a fine-tune and how it was found: `given`, `marker`, `previous`, `inferred` or `modules`.

    Attributes:
        distance: relative distance of the sampled weights, if it was inferred from those.
        init: the adapter that training went on from; it sits on the base, so it cannot be one.
    """

    commit: CommitId
    name: str
    how: str
    distance: float | None = None
    init: CommitId | None = None

    __repr__ = brief


def find_base(repo: Repository, checkpoint: SourceCheckpoint, source: Path, tip: CommitId | None) -> Base:
    """Find the base of a checkpoint.

    Args:
        source: the directory it lies in, which may hold the marker of a checkout.
        tip: of the branch that it continues, if it does.

    Raises:
        InvalidInputError: `base-unknown` with the nearest candidates and why each fails.
    """
    marker = read_marker(source) if source.is_dir() else None
    if marker is not None and repo.objects.has(marker.commit):
        value = repo.commit(marker.commit)
        below = value.parent_as(Role.BASE) if value.kind is Kind.ADAPTER else None
        if below is not None:
            return Base(below, name_of(repo, below), "marker", init=marker.commit)
        return Base(marker.commit, name_of(repo, marker.commit), "marker")
    if tip is not None:
        of_tip = repo.commit(tip).parent_as(Role.BASE)
        if of_tip is not None:
            return Base(of_tip, name_of(repo, of_tip), "previous")
    refuse_adapters_below(checkpoint)
    foreign = foreign_lora_of(checkpoint)
    if foreign is not None:
        raise InvalidInputError(
            f"cannot tell the base of {checkpoint.root}: a {foreign} does not say what it is for",
            kind=ErrorKind.BASE_UNKNOWN,
            advice=Advice.NAME_OR_IMPORT_BASE,
        )
    if checkpoint.is_adapter:
        found = base_of_adapter(repo, checkpoint)
        return Base(found, name_of(repo, found), "modules")
    candidates = judge_bases(repo.objects, checkpoint, _checkpoints(repo))
    if not candidates or candidates[0].why:
        raise _unknown_base(repo, checkpoint, candidates)
    best = candidates[0]
    return Base(best.commit, name_of(repo, best.commit), "inferred", best.distance)


def check_fits(repo: Repository, checkpoint: SourceCheckpoint, base: Base) -> None:
    """Refuse a base whose tensors are not those of the fine-tune.

    Raises:
        InvalidInputError: `incompatible`.
    """
    if repo.commit(base.commit).kind is Kind.ADAPTER:
        raise InvalidInputError(f"{base.name} is an adapter, not a base", kind=ErrorKind.INCOMPATIBLE)
    refuse_adapters_below(checkpoint)
    manifest = repo.manifest(base.commit)
    if foreign_lora_of(checkpoint) is not None:
        return
    if checkpoint.is_adapter:
        check_adapter_fits(repo, checkpoint, base.commit)
        return
    found = mismatch(checkpoint, manifest)
    common = manifest.primary.keys() & checkpoint.tensors.keys()
    # A fine-tune may add or drop a tensor (a tied head, a new classifier); it cannot share none, or
    # have other shapes under the same names.
    if found.shapes or len(common) * 2 < len(manifest.primary):
        raise InvalidInputError(
            f"{checkpoint.root} does not fit the base {base.name}: {found.describe()}",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.NAME_RIGHT_BASE,
        )


def _checkpoints(repo: Repository) -> Iterator[tuple[CommitId, Manifest]]:
    """Every checkpoint of the history once, adapters left out."""
    seen = set()
    for commit_id, value in walk(repo.objects, tips(repo)):
        if value.kind is not Kind.ADAPTER and value.manifest not in seen:
            seen.add(value.manifest)
            yield commit_id, repo.objects.get_manifest(value.manifest)


def _unknown_base(
    repo: Repository, checkpoint: SourceCheckpoint, candidates: Sequence[PossibleBase]
) -> InvalidInputError:
    shown = "; ".join(f"{name_of(repo, c.commit)}: {c.why}" for c in candidates[:_SHOWN])
    if not candidates:
        return InvalidInputError(
            f"cannot tell the base of {checkpoint.root}: the repository is empty",
            kind=ErrorKind.BASE_UNKNOWN,
            advice=Advice.IMPORT_BASE_FIRST,
        )
    return InvalidInputError(
        f"cannot tell the base of {checkpoint.root}; the nearest candidates: {shown}",
        kind=ErrorKind.BASE_UNKNOWN,
        advice=Advice.NAME_OR_IMPORT_BASE,
    )
