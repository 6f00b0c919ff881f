"""Finding the base of a checkpoint: from what a checkout left, from the branch, or from the weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from deltavcs.advice import Advice
from deltavcs.checkpoint.base_search import distance_to, shares_enough
from deltavcs.checkpoint.correspondence import Correspondence
from deltavcs.checkpoint.marker import read_marker
from deltavcs.checkpoint.matching import match, of_manifest, of_source
from deltavcs.checkpoint.mismatch import mismatch
from deltavcs.checkpoint.source import SourceCheckpoint
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import Kind, Role
from deltavcs.oid import CommitId
from deltavcs.repo import Repository
from deltavcs.steps.adapter_bases import base_of_adapter
from deltavcs.steps.adapter_checks import check_adapter_fits, foreign_lora_of, refuse_adapters_below
from deltavcs.steps.found_base import Base, RunnerUp
from deltavcs.steps.naming import name_of
from deltavcs.steps.nearest import nearest_base
from deltavcs.steps.same_weights import is_copy


def find_base(repo: Repository, checkpoint: SourceCheckpoint, source: Path, tip: CommitId | None) -> Base:
    """Find the base of a checkpoint.

    What a marker or a branch says counts, unless the weights are unrelated to it and near another one.

    Args:
        source: the directory it lies in, which may hold the marker of a checkout.
        tip: of the branch that it continues, if it does.

    Raises:
        InvalidInputError: `base-unknown` with the nearest candidates and why each fails.
    """
    known = marked_base(repo, source) or (base_of_tip(repo, tip) if tip is not None else None)
    if checkpoint.is_adapter:
        return known or base_of_adapter(repo, checkpoint)
    if known is None:
        refuse_adapters_below(checkpoint)
        _refuse_foreign(checkpoint)
        return nearest_base(repo, checkpoint)
    known = measured(repo, checkpoint, known)
    if known.how == "marker" and known.distance == 0.0:
        return _base_of_copy(repo, checkpoint, known)
    elsewhere = known.nearer is not None or (known.how == "previous" and known.distance is None)
    nearest = _nearest_if_any(repo, checkpoint) if elsewhere else None
    if nearest is None:
        return known
    return replace(nearest, passed_over=RunnerUp(known.name, known.distance))


def _refuse_foreign(checkpoint: SourceCheckpoint) -> None:
    """Refuse to guess what factors in another layout than PEFT's belong to."""
    foreign = foreign_lora_of(checkpoint)
    if foreign is not None:
        raise InvalidInputError(
            f"cannot tell the base of {checkpoint.root}: a {foreign} does not say what it is for",
            kind=ErrorKind.BASE_UNKNOWN,
            advice=Advice.NAME_OR_IMPORT_BASE,
        )


def checked_out(repo: Repository, source: Path) -> Base | None:
    """The commit that a checkout wrote into a directory; of a folded adapter, what that sits on.

    With the adapter folded in, the directory holds no adapter, but its base with other weights.
    """
    marker = read_marker(source) if source.is_dir() else None
    if marker is None or not repo.objects.has(marker.commit):
        return None
    manifest = repo.manifest(marker.commit)
    if marker.files is not None and not {f.path for f in manifest.files} <= marker.files.keys():
        return marked_base(repo, source)
    return Base(marker.commit, name_of(repo, marker.commit), "marker")


def marked_base(repo: Repository, source: Path) -> Base | None:
    """What the marker of a checkout says: the commit that lay there, or what an adapter of it sits on."""
    marker = read_marker(source) if source.is_dir() else None
    if marker is None or not repo.objects.has(marker.commit):
        return None
    value = repo.commit(marker.commit)
    below = value.parent_as(Role.BASE) if value.kind is Kind.ADAPTER else None
    if below is not None:
        return Base(below, name_of(repo, below), "marker", init=marker.commit)
    return Base(marker.commit, name_of(repo, marker.commit), "marker")


def base_of_tip(repo: Repository, tip: CommitId) -> Base | None:
    """The base of the branch's last commit."""
    of_tip = repo.commit(tip).parent_as(Role.BASE)
    return Base(of_tip, name_of(repo, of_tip), "previous") if of_tip is not None else None


def measured(repo: Repository, checkpoint: SourceCheckpoint, base: Base) -> Base:
    """A base with its distance and, if the weights are unrelated to it, with what they are near to."""
    if checkpoint.is_adapter or repo.commit(base.commit).kind is Kind.ADAPTER:
        return base
    away = distance_to(repo.objects, checkpoint, repo.manifest(base.commit))
    base = replace(base, distance=away)
    if not base.is_unrelated:
        return base
    nearest = _nearest_if_any(repo, checkpoint)
    if nearest is None or nearest.commit == base.commit or nearest.is_unrelated:
        return base
    return replace(base, nearer=RunnerUp(nearest.name, nearest.distance or 0.0))


def _base_of_copy(repo: Repository, checkpoint: SourceCheckpoint, known: Base) -> Base:
    """Of a fine-tune that was checked out and not changed, its own base."""
    value = repo.commit(known.commit)
    below = value.parent_as(Role.BASE) if value.kind is not Kind.BASE else None
    if below is None or not is_copy(checkpoint, repo.manifest(known.commit)):
        return known
    return measured(repo, checkpoint, Base(below, name_of(repo, below), "copy"))


def _nearest_if_any(repo: Repository, checkpoint: SourceCheckpoint) -> Base | None:
    try:
        return nearest_base(repo, checkpoint)
    except InvalidInputError:
        return None


def check_fits(repo: Repository, checkpoint: SourceCheckpoint, base: Base) -> Correspondence | None:
    """Refuse a base whose tensors are not those of the fine-tune.

    Returns:
        Which tensor is which of the base's; None for an adapter.

    Raises:
        InvalidInputError: `incompatible`.
    """
    if repo.commit(base.commit).kind is Kind.ADAPTER:
        raise InvalidInputError(f"{base.name} is an adapter, not a base", kind=ErrorKind.INCOMPATIBLE)
    refuse_adapters_below(checkpoint)
    manifest = repo.manifest(base.commit)
    if foreign_lora_of(checkpoint) is not None:
        return None
    if checkpoint.is_adapter:
        check_adapter_fits(repo, checkpoint, base.commit)
        return None
    ours, theirs = of_source(checkpoint), of_manifest(repo.objects, manifest)
    try:
        found = match(ours, theirs)
    except InvalidInputError as exc:
        raise exc.within(f"{checkpoint.root} does not fit the base {base.name}") from exc
    problem = mismatch(ours.tensors, theirs.tensors, found)
    # A checkpoint without tensors of its own at the top is kept whole; the ingest refuses one without any.
    if problem.shapes or (theirs.tensors and not shares_enough(found)):
        raise InvalidInputError(
            f"{checkpoint.root} does not fit the base {base.name}: {problem.describe()}",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.NAME_RIGHT_BASE,
        )
    return found
