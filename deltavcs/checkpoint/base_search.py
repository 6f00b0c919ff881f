"""Finding the base of a fine-tune from its weights alone.

Candidates must have tensors that correspond; among those the one wins whose weights are nearest in a few
sampled ranges, if it is near at all: two unrelated trainings of one architecture are not base and fine-tune.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from deltavcs.checkpoint.correspondence import Correspondence, correspond
from deltavcs.checkpoint.matching import match, of_manifest, of_source
from deltavcs.checkpoint.mismatch import mismatch
from deltavcs.checkpoint.nearness import distance, of_entries, of_tensors
from deltavcs.checkpoint.source import SourceCheckpoint
from deltavcs.errors import InvalidInputError
from deltavcs.objects.model import Manifest
from deltavcs.objects.store import ObjectStore
from deltavcs.oid import CommitId

# Fine-tunes lie within a few percent of their base, small models that were trained hard within half of it;
# independent weights lie at √2 ≈ 1.4, and never below 1.
NEAR = 0.7


@dataclass(frozen=True, slots=True)
class PossibleBase:
    """A possible base.

    Attributes:
        distance: ‖sample − base‖ / ‖base‖ over the sampled ranges; None if the tensors do not fit.
        why: what speaks against it; empty if nothing.
    """

    commit: CommitId
    distance: float | None
    why: str


def judge_bases(
    objects: ObjectStore, source: SourceCheckpoint, candidates: Iterable[tuple[CommitId, Manifest]]
) -> list[PossibleBase]:
    """Judge every candidate, the nearest first; those that fit come before those that do not."""
    judged = [_judge(objects, source, *candidate) for candidate in candidates]
    return [c for _, _, c in sorted(judged, key=lambda x: (x[0], x[1]))]


def _judge(
    objects: ObjectStore, source: SourceCheckpoint, commit: CommitId, manifest: Manifest
) -> tuple[int, float, PossibleBase]:
    ours, theirs = of_source(source), of_manifest(objects, manifest)
    try:
        found = correspond(ours.tensors, theirs.tensors)
        problem = mismatch(ours.tensors, theirs.tensors, found)
        if not shares_enough(found) and not problem.shapes:
            found = match(ours, theirs)
            problem = mismatch(ours.tensors, theirs.tensors, found)
    except InvalidInputError as exc:
        return 2, 0.0, PossibleBase(commit, None, str(exc))
    if problem.shapes or not shares_enough(found):
        n = len(problem.missing) + len(problem.extra) + len(problem.shapes)
        return 2, float(n), PossibleBase(commit, None, problem.describe())
    away = distance(of_tensors(source), of_entries(objects, manifest), found.names)
    if away is None:
        return 2, 0.0, PossibleBase(commit, None, "no floating-point weights to compare")
    if away > NEAR:
        why = f"its weights are unrelated (relative distance {away:.2f})"
        return 1, away, PossibleBase(commit, away, why)
    return 0, away, PossibleBase(commit, away, "")


def shares_enough(found: Correspondence) -> bool:
    """True if most tensors of the smaller checkpoint are in the other.

    A fine-tune may add or drop a tensor (a tied head, a new classifier), or be the bare model of its base; it
    cannot share none.
    """
    n = len(found.names)
    return n > 0 and n >= min(len(found.only_ours), len(found.only_theirs))


def distance_to(
    objects: ObjectStore, source: SourceCheckpoint, base: Manifest, *, every: bool = False
) -> float | None:
    """Relative distance of a checkpoint's weights from a base's.

    Args:
        every: look into every tensor, since only a part of them may have been trained.

    Returns:
        None if their tensors do not correspond, or none has arithmetic.
    """
    try:
        found = match(of_source(source), of_manifest(objects, base))
    except InvalidInputError:
        return None
    if not shares_enough(found):
        return None
    return distance(of_tensors(source), of_entries(objects, base), found.names, every=every)
