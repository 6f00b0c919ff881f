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
from deltavcs.index.queries import Edge, children_of
from deltavcs.merging.carried_files import CarriedFiles
from deltavcs.merging.combination import Compatibility
from deltavcs.objects.model import Kind, Role
from deltavcs.oid import CommitId
from deltavcs.refs import check_name
from deltavcs.repo import Repository
from deltavcs.steps.adapter_transfers import (
    AdapterTransferPlan,
    measure_adapter_transfer,
    plan_adapter_transfer,
    record_adapter_transfer,
)
from deltavcs.steps.arguments import several
from deltavcs.steps.branches import check_kind
from deltavcs.steps.carrying import Carrying
from deltavcs.steps.naming import name_of
from deltavcs.steps.recording import Draft, Recorded
from deltavcs.steps.transfers import (
    TransferPlan,
    measure_transfer,
    plan_transfer,
    record_transfer,
    transfer_facts,
)

Plan = TransferPlan | AdapterTransferPlan


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
        carried: whose configuration and tokenizer it has, and where the configurations differ; None for an
            adapter.
        adapter: what was carried over is an adapter.
        folded: the adapter was folded into its new base; otherwise the result is an adapter for it.
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
    carried: CarriedFiles | None = None
    dequantised: Mapping[str, str] = field(default_factory=dict)
    adapter: bool = False
    folded: bool = False

    __repr__ = brief


def transfer(
    repo: Repository,
    from_: str,
    to: str,
    *,
    deltas: Sequence[str] | Literal["all"] = (),
    scale: float = 1.0,
    carrying: Carrying | None = None,
    draft: Draft | None = None,
    dry_run: bool = False,
) -> list[Transferred]:
    """Commit `to + scale · (fine-tune − its base)` for one or more fine-tunes.

    Of an adapter the same factors are committed for the new base: an adapter again, or with `fold` that base
    with them folded in.

    Args:
        from_: a base, whose single fine-tune is taken, or its single adapter if it has no fine-tune; or a
            fine-tune or an adapter.
        to: the target base.
        deltas: which fine-tunes and adapters of the base to take, or `all` of them.
        scale: λ, a finite number.
        carrying: how the result is made.
        draft: branch, by default `TO+DELTA`, and only with one fine-tune; message and metadata.
        dry_run: measure and report, but commit nothing.

    Raises:
        InvalidInputError: `ambiguous-delta` with the choices; `incompatible` with the tensors; `quantised`.
        AlreadyExistsError: `ref-exists` if the branch holds something else.
        NotFoundError: an unknown revision, or a base without fine-tune.
    """
    draft = (draft or Draft()).signed(repo, f"transfer {from_} to {to}")
    carrying = carrying or Carrying()
    if not math.isfinite(scale):
        raise InvalidInputError(f"scale {scale} is not a finite number", kind=ErrorKind.BAD_ARGUMENT)
    deltas = deltas if deltas == "all" else several(deltas, "deltas")
    target = repo.resolve(to)
    chosen = _choose(repo, from_, deltas)
    _check_single(draft, len(chosen))
    _check_base(repo, target, to)
    _check_fold(repo, carrying, chosen)
    plans = [_plan(repo, delta, target, scale, carrying) for delta in chosen]
    names = [check_name(_branch(repo, plan) if draft.name is None else draft.name) for plan in plans]
    for plan, name in zip(plans, names, strict=True):
        as_adapter = isinstance(plan, AdapterTransferPlan) and not plan.folded
        check_kind(repo, replace(draft, name=name), Kind.ADAPTER if as_adapter else Kind.TRANSFER)
    done = []
    for plan, name in zip(plans, names, strict=True):
        distances = _measure(repo, plan)
        recorded = None
        if not dry_run:
            recorded = _record(repo, plan, replace(draft, name=name), distances)
        done.append(_result(repo, plan, name, distances, recorded))
    return done


def _plan(repo: Repository, delta: CommitId, target: CommitId, scale: float, carrying: Carrying) -> Plan:
    if repo.commit(delta).kind is Kind.ADAPTER:
        return plan_adapter_transfer(repo, delta, target, scale=scale, carrying=carrying)
    return plan_transfer(repo, delta, target, scale=scale, carrying=carrying)


def _measure(repo: Repository, plan: Plan) -> dict[str, Geometry]:
    if isinstance(plan, AdapterTransferPlan):
        return measure_adapter_transfer(repo, plan)
    return measure_transfer(repo, plan)


def _record(repo: Repository, plan: Plan, draft: Draft, distances: Mapping[str, Geometry]) -> Recorded:
    if isinstance(plan, AdapterTransferPlan):
        return record_adapter_transfer(repo, plan, draft, transfer_facts(plan.scale, distances))
    return record_transfer(repo, plan, draft, distances)


def _choose(repo: Repository, from_: str, deltas: Sequence[str] | Literal["all"]) -> list[CommitId]:
    start = repo.resolve(from_)
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
    whole = [c for c in found if repo.commit(c).kind is not Kind.ADAPTER]
    if deltas != "all" and len(whole) == 1:
        return whole
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
    """Fine-tunes and adapters that were trained from a base: of each run only its last checkpoint."""
    edges = children_of(repo.index, base)
    children = [CommitId(e.child) for e in edges if e.role == Role.BASE and _is_trained(repo, e)]
    superseded = {p for c in children for p in repo.commit(c).parents_as(Role.PREVIOUS)}
    return [c for c in children if c not in superseded]


def _is_trained(repo: Repository, edge: Edge) -> bool:
    """Whether a child of a base was trained, and not merged or carried over from others."""
    if edge.kind != Kind.ADAPTER:
        return edge.kind == Kind.FINETUNE
    value = repo.commit(CommitId(edge.child))
    return not (value.parents_as(Role.INPUT) or value.parents_as(Role.DELTA))


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


def _check_fold(repo: Repository, carrying: Carrying, chosen: Sequence[CommitId]) -> None:
    if carrying.fold and all(repo.commit(c).kind is not Kind.ADAPTER for c in chosen):
        raise InvalidInputError(
            f"{name_of(repo, chosen[0])} is no adapter: there is nothing to fold",
            kind=ErrorKind.BAD_ARGUMENT,
            advice=Advice.NOTHING_TO_FOLD,
        )


def _branch(repo: Repository, plan: Plan) -> str:
    """`TO+DELTA`; what names an earlier commit is no part of a branch's name."""
    return f"{name_of(repo, plan.target)}+{name_of(repo, plan.delta)}".replace("~", "-")


def _result(
    repo: Repository,
    plan: Plan,
    name: str,
    distances: Mapping[str, Geometry],
    recorded: Recorded | None,
) -> Transferred:
    is_adapter = isinstance(plan, AdapterTransferPlan)
    return Transferred(
        delta=name_of(repo, plan.delta),
        source=name_of(repo, plan.source),
        target=name_of(repo, plan.target),
        name=name,
        scale=plan.scale,
        recipe=plan.recipe,
        backport=repo.commit(plan.target).time < repo.commit(plan.source).time,
        compatibility=plan.compatibility,
        geometry=distances,
        recorded=recorded,
        source_commit=plan.source,
        target_commit=plan.target,
        carried=None if isinstance(plan, AdapterTransferPlan) else plan.combination.carried,
        dequantised={} if isinstance(plan, AdapterTransferPlan) else plan.operands.dequantised,
        adapter=is_adapter,
        folded=isinstance(plan, AdapterTransferPlan) and plan.folded,
    )
