"""Carrying a diff vector over to another base: m_t + λ·Δ_s with Δ_s = m'_s − m_s (Lin et al.)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from deltavcs.advice import Advice
from deltavcs.checkpoint.geometry import Geometry, geometry
from deltavcs.checkpoint.storing import store_view
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.combination import Combination, Compatibility, combine
from deltavcs.merging.counterparts import MergeInput
from deltavcs.merging.expression import transfer_program
from deltavcs.objects.model import Kind, Parent, Role
from deltavcs.oid import CommitId
from deltavcs.repo import Repository
from deltavcs.steps.branches import Newcomer, check_branch
from deltavcs.steps.carrying import Carrying
from deltavcs.steps.naming import name_of
from deltavcs.steps.operands import Operands, dequantised_facts, open_operands
from deltavcs.steps.recording import Draft, MadeAs, Recorded, recording
from deltavcs.steps.whole_files import check_tensors

_FINETUNED = (Kind.FINETUNE, Kind.MERGE, Kind.TRANSFER)


@dataclass(frozen=True, slots=True)
class TransferPlan:
    """A diff vector and the base that gets it.

    Attributes:
        delta: the fine-tune m'_s.
        source: its base m_s.
        target: m_t.
        scale: λ.
        operands: the three as they are computed with: m_t, m'_s, m_s.
    """

    delta: CommitId
    source: CommitId
    target: CommitId
    scale: float
    combination: Combination
    operands: Operands

    @property
    def recipe(self) -> str:
        """The sum with full commit ids."""
        return f"{self.target} + {self.scale!r} * ({self.delta} - {self.source})"

    @property
    def compatibility(self) -> Compatibility:
        """Which tensors took part."""
        return self.combination.compatibility


def plan_transfer(
    repo: Repository,
    delta: CommitId,
    target: CommitId,
    *,
    scale: float = 1.0,
    carrying: Carrying | None = None,
) -> TransferPlan:
    """Fit the diff vector of a fine-tune to a base.

    Args:
        carrying: how the result is made; what was dequantised is stored as values.

    Raises:
        InvalidInputError: `incompatible` with the tensors, or for what has no diff vector; `quantised`.
    """
    how = carrying or Carrying()
    value = repo.commit(delta)
    source = value.parent_as(Role.BASE)
    if source is None or value.kind not in _FINETUNED:
        raise InvalidInputError(
            f"{name_of(repo, delta)} is a {value.kind}; only a fine-tune has a diff vector",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.NAME_FINETUNE,
        )
    commits = (target, delta, source)
    check_tensors(repo, commits)
    names = [name_of(repo, c) for c in commits]
    operands = open_operands(repo, commits, names, dequantize=how.dequantize)
    models = [MergeInput(n, m) for n, m in zip(names, operands.manifests, strict=True)]
    combination = combine(
        operands.objects,
        transfer_program(scale),
        models,
        is_transfer=True,
        vocab=how.vocab,
        config=how.config,
    )
    return TransferPlan(delta, source, target, scale, combination, operands)


def measure_transfer(repo: Repository, plan: TransferPlan) -> dict[str, Geometry]:
    """How far the three checkpoints of a transfer lie apart, by group of tensors and in all (`all`)."""
    return geometry(plan.operands.objects, plan.combination.triples, repo.resources)


def transfer_facts(scale: float, distances: Mapping[str, Geometry]) -> dict[str, str]:
    """The figures that the history keeps of a transfer, as metadata."""
    whole = distances["all"]
    figures = {
        "scale": scale,
        "cosine": whole.cosine,
        "relative-drift": whole.relative_drift,
        "delta-l2": whole.delta,
    }
    return {f"transfer.{k}": f"{v:.6g}" for k, v in figures.items() if v is not None}


def record_transfer(
    repo: Repository, plan: TransferPlan, draft: Draft, distances: Mapping[str, Geometry]
) -> Recorded:
    """Commit a transfer as its rule and its inputs: kilobytes.

    Args:
        draft: signed, with a name; the task is the fine-tune's.
        distances: by group of tensors and in all (`all`), kept as metadata.

    Raises:
        AlreadyExistsError: `ref-exists` if the branch holds something else.
    """
    assert draft.name is not None
    facts = transfer_facts(plan.scale, distances)
    facts |= dequantised_facts("transfer", plan.operands)
    task = repo.commit(plan.delta).task
    check_branch(repo, draft, Newcomer.of_view(repo.objects, plan.combination.view, Kind.TRANSFER))
    made_as = MadeAs(
        kind=Kind.TRANSFER,
        base=plan.target,
        parents=(
            Parent(plan.target, Role.BASE),
            Parent(plan.delta, Role.DELTA),
            Parent(plan.source, Role.SOURCE),
        ),
        recipe=plan.recipe,
    )
    with recording(repo, draft.name) as record:
        stored = store_view(
            record.transaction,
            plan.operands.stored_view(plan.combination.view),
            base=repo.manifest(plan.target),
            resources=repo.resources,
        )
        return record.commit(stored, replace(draft, task=task, metadata={**facts, **draft.metadata}), made_as)
