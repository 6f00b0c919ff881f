"""Recycle a fine-tune's diff vector onto another base (Lin et al.).

m_t + λ·Δ_s with Δ_s = m'_s − m_s; *recycling* when t is newer than s, *backporting* when older.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from deltavcs.advice import Advice
from deltavcs.brief import brief
from deltavcs.checkpoint.geometry import Geometry
from deltavcs.errors import ErrorKind, InvalidInputError, NotFoundError
from deltavcs.index.queries import children_of
from deltavcs.merging.combination import Compatibility
from deltavcs.objects.model import Kind, Role
from deltavcs.oid import CommitId
from deltavcs.refs import check_name
from deltavcs.repo import Repository
from deltavcs.steps.arguments import several
from deltavcs.steps.naming import name_of
from deltavcs.steps.recording import Draft, Recorded
from deltavcs.steps.transfers import TransferPlan, measure_transfer, plan_transfer, record_transfer


@dataclass(frozen=True, slots=True)
class Transferred:
    """One diff vector on its new base, and how well the two fit.

    Attributes:
        delta, source, target: the fine-tune, its base, and the new base.
        recorded: None after a dry run.
        geometry: distances by group of tensors and in all (`all`).
        backport: True if the target base is older than the source.
        source_commit, target_commit: the two bases.
        dequantised: by revision, how what was dequantised is stored.
    """

    delta: str
    source: str
    target: str
    name: str
    scale: float
    recipe: str
    backport: bool
    compatibility: Compatibility
    geometry: Mapping[str, Geometry]
    recorded: Recorded | None
    source_commit: CommitId
    target_commit: CommitId
    dequantised: Mapping[str, str] = field(default_factory=dict)

    __repr__ = brief


def transfer(
    repo: Repository,
    from_: str,
    to: str,
    *,
    deltas: Sequence[str] | Literal["all"] = (),
    scale: float = 1.0,
    vocab: str = "pad",
    draft: Draft | None = None,
    dry_run: bool = False,
    dequantize: bool = False,
) -> list[Transferred]:
    """Commit `to + scale · (fine-tune − its base)` for one or more fine-tunes.

    Args:
        from_: a base, whose single fine-tune is taken, or a fine-tune.
        to: the target base.
        deltas: which fine-tunes of the base to take, or `all` of them.
        scale: λ, a finite number.
        vocab: `pad` counts rows that a base lacks as zeros; `strict` refuses them.
        draft: branch, by default `TO+DELTA`, and only with one fine-tune; message and metadata.
        dry_run: measure and report, but commit nothing.
        dequantize: compute with the weights that quantised checkpoints stand for; the result has those.

    Raises:
        InvalidInputError: `ambiguous-delta` with the choices; `incompatible` with the tensors; `quantised`.
        NotFoundError: an unknown revision, or a base without fine-tune.
    """
    draft = (draft or Draft()).signed(repo, f"transfer {from_} to {to}")
    if not math.isfinite(scale):
        raise InvalidInputError(f"scale {scale} is not a finite number", kind=ErrorKind.BAD_ARGUMENT)
    if vocab not in ("pad", "strict"):
        raise InvalidInputError(
            f"vocab is {vocab!r}",
            kind=ErrorKind.BAD_ARGUMENT,
            advice=Advice.ONE_OF,
            facts={"choices": "pad, strict"},
        )
    deltas = deltas if deltas == "all" else several(deltas, "deltas")
    target = repo.resolve(to)
    chosen = _choose(repo, from_, deltas)
    _check_single(draft, len(chosen))
    _check_base(repo, target, to)
    plans = [
        plan_transfer(repo, delta, target, scale=scale, vocab=vocab, dequantize=dequantize)
        for delta in chosen
    ]
    names = [check_name(_branch(repo, plan) if draft.name is None else draft.name) for plan in plans]
    done = []
    for plan, name in zip(plans, names, strict=True):
        distances = measure_transfer(repo, plan)
        recorded = None
        if not dry_run:
            recorded = record_transfer(repo, plan, replace(draft, name=name), distances)
        done.append(_result(repo, plan, name, distances, recorded))
    return done


def _choose(repo: Repository, from_: str, deltas: Sequence[str] | Literal["all"]) -> list[CommitId]:
    start = repo.resolve(from_)
    if repo.commit(start).kind is Kind.ADAPTER:
        raise InvalidInputError(
            f"{from_} is an adapter: its factors fit another base only by name, there is no diff to add",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.FOLD_ADAPTER,
            facts={"revision": from_},
        )
    if deltas and deltas != "all":
        return [_delta_of(repo, d, start, from_) for d in dict.fromkeys(deltas)]
    if repo.commit(start).kind is not Kind.BASE:
        return [start]
    found = _finetunes_of(repo, start)
    if not found:
        raise NotFoundError(
            f"{from_} has no fine-tune whose diff vector could be transferred",
            kind=ErrorKind.UNKNOWN_REVISION,
            advice=Advice.COMMIT_FINETUNE_FIRST,
            facts={"base": from_},
        )
    if len(found) > 1 and deltas != "all":
        choices = ", ".join(name_of(repo, c) for c in found)
        raise InvalidInputError(
            f"{from_} has {len(found)} fine-tunes: {choices}", kind=ErrorKind.AMBIGUOUS_DELTA
        )
    return found


def _delta_of(repo: Repository, delta: str, base: CommitId, from_: str) -> CommitId:
    """A fine-tune that was named, which must be one of the base that was."""
    found = repo.resolve(delta)
    source = repo.commit(found).parent_as(Role.BASE)
    if base not in (found, source):
        of = f"a fine-tune of {name_of(repo, source)}" if source is not None else "no fine-tune"
        raise InvalidInputError(
            f"{delta} is {of}, not of {from_}",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.TRANSFER_FROM_ITSELF,
            facts={"delta": delta},
        )
    return found


def _finetunes_of(repo: Repository, base: CommitId) -> list[CommitId]:
    """Fine-tunes of a base: of each run only its last checkpoint."""
    edges = [e for e in children_of(repo.index, base) if e.role == Role.BASE and e.kind == Kind.FINETUNE]
    children = [CommitId(e.child) for e in edges]
    superseded = {p for c in children for p in repo.commit(c).parents_as(Role.PREVIOUS)}
    return [c for c in children if c not in superseded]


def _check_single(draft: Draft, n_chosen: int) -> None:
    if draft.name is not None and n_chosen > 1:
        raise InvalidInputError(
            f"the name {draft.name} is for one result, but {n_chosen} fine-tunes are transferred",
            kind=ErrorKind.BAD_ARGUMENT,
            advice=Advice.LEAVE_OUT_NAME,
        )


def _check_base(repo: Repository, target: CommitId, to: str) -> None:
    if repo.commit(target).kind is Kind.ADAPTER:
        raise InvalidInputError(f"{to} is an adapter, not a base", kind=ErrorKind.INCOMPATIBLE)


def _branch(repo: Repository, plan: TransferPlan) -> str:
    """`TO+DELTA`; what names an earlier commit is no part of a branch's name."""
    return f"{name_of(repo, plan.target)}+{name_of(repo, plan.delta)}".replace("~", "-")


def _result(
    repo: Repository,
    plan: TransferPlan,
    name: str,
    distances: Mapping[str, Geometry],
    recorded: Recorded | None,
) -> Transferred:
    return Transferred(
        delta=name_of(repo, plan.delta),
        source=name_of(repo, plan.source),
        target=name_of(repo, plan.target),
        name=name,
        scale=plan.scale,
        recipe=plan.recipe,
        backport=repo.commit(plan.target).time < repo.commit(plan.source).time,
        compatibility=plan.combination.compatibility,
        geometry=distances,
        recorded=recorded,
        source_commit=plan.source,
        target_commit=plan.target,
        dequantised=plan.operands.dequantised,
    )
