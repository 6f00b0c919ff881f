"""Choosing among the checkpoints that are near a fine-tune: which one it was trained from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deltavcs.advice import Advice
from deltavcs.checkpoint.base_search import PossibleBase, distance_to, judge_bases
from deltavcs.checkpoint.source import SourceCheckpoint
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import Kind, Role
from deltavcs.oid import CommitId
from deltavcs.repo import Repository
from deltavcs.steps.found_base import Base, RunnerUp
from deltavcs.steps.naming import name_of
from deltavcs.steps.same_weights import checkpoints, is_copy, without_copies

_SHOWN = 3
# Of two that are so nearly as near as each other, either can be the base.
_EQUAL = 1.25
# A fine-tune is a base's only child until another one is so much nearer.
_CLEARLY = 2.0
_CLOSER = 3.0
_MOST_CLOSER = 8


@dataclass(frozen=True, slots=True)
class _Near:
    commit: CommitId
    distance: float
    is_base: bool


def nearest_base(repo: Repository, checkpoint: SourceCheckpoint) -> Base:
    """The checkpoint of the history whose weights are nearest, where that is beyond doubt.

    Bases come first: a fine-tune is taken only if it is twice as near as every base. A checkpoint that is
    stored already has the base of the commit that it is a copy of.

    Raises:
        InvalidInputError: `base-unknown` with the nearest candidates and why each fails, or with the two
            that fit about equally.
    """
    judged = judge_bases(repo.objects, checkpoint, checkpoints(repo))
    fitting = [c for c in judged if not c.why]
    if not fitting:
        raise _unknown_base(repo, checkpoint, judged)
    near = _measured(repo, checkpoint, fitting)
    original = _original(repo, checkpoint, near)
    if original is not None:
        return original
    best = _choose(near)
    equal = [n for n in near if n.is_base == best.is_base and n.distance <= _EQUAL * best.distance]
    last = _last_of_one_branch(repo, equal)
    if last is None:
        raise _two_fit(repo, checkpoint, best, next(n for n in equal if n is not best))
    best = last
    rivals = [n for n in near if n is not best]
    second = RunnerUp(name_of(repo, rivals[0].commit), rivals[0].distance) if rivals else None
    return Base(best.commit, name_of(repo, best.commit), "inferred", best.distance, runner_up=second)


def _measured(repo: Repository, checkpoint: SourceCheckpoint, fitting: Sequence[PossibleBase]) -> list[_Near]:
    """The candidates, nearest first; those in question measured in every tensor."""
    away = {c.commit: c.distance or 0.0 for c in fitting}
    kept = without_copies(repo, away)
    away = {c: away.get(c, 0.0) for c in kept}
    first = sorted(kept, key=lambda c: away[c])
    contested = [c for c in first if away[c] <= _CLOSER * away[first[0]]][:_MOST_CLOSER]
    if len(contested) > 1:
        for commit in contested:
            closer = distance_to(repo.objects, checkpoint, repo.manifest(commit), every=True)
            away[commit] = away[commit] if closer is None else closer
    near = [_Near(c, away[c], repo.commit(c).kind is Kind.BASE) for c in kept]
    return sorted(near, key=lambda n: (n.distance, not n.is_base))


def _choose(near: Sequence[_Near]) -> _Near:
    base = next((n for n in near if n.is_base), None)
    return base if base is not None and base.distance <= _CLEARLY * near[0].distance else near[0]


def _last_of_one_branch(repo: Repository, equal: Sequence[_Near]) -> _Near | None:
    """The last of several steps of one run; None if they are of several."""
    last = max(equal, key=lambda n: repo.commit(n.commit).time)
    left = {n.commit for n in equal}
    at: CommitId | None = last.commit
    while at is not None and left:
        left.discard(at)
        at = repo.commit(at).parent_as(Role.PREVIOUS)
    return None if left else last


def _original(repo: Repository, checkpoint: SourceCheckpoint, near: Sequence[_Near]) -> Base | None:
    """The base of what a checkpoint is a copy of; None if it is no copy."""
    for one in near:
        if one.distance == 0.0 and is_copy(checkpoint, repo.manifest(one.commit)):
            below = None if one.is_base else repo.commit(one.commit).parent_as(Role.BASE)
            base = below or one.commit
            away = distance_to(repo.objects, checkpoint, repo.manifest(base))
            return Base(base, name_of(repo, base), "copy", away)
    return None


def _two_fit(repo: Repository, checkpoint: SourceCheckpoint, one: _Near, other: _Near) -> InvalidInputError:
    names = [name_of(repo, n.commit) for n in (one, other)]
    away = [f"{name} ({100 * n.distance:.3g}% away)" for name, n in zip(names, (one, other), strict=True)]
    return InvalidInputError(
        f"cannot tell the base of {checkpoint.root}: {' and '.join(away)} fit about equally",
        kind=ErrorKind.BASE_UNKNOWN,
        advice=Advice.NAME_ONE_BASE,
        facts={"first": names[0], "second": names[1]},
    )


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
