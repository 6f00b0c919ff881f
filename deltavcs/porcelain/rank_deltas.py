"""Which diff vectors to recycle onto a base, without any data (Lin et al.).

Transfer works when both bases lie in one linearly connected region; how far they are apart, relative to
their size, is what can be known without evaluating anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from deltavcs.brief import brief
from deltavcs.checkpoint.geometry import Geometry, geometry
from deltavcs.checkpoint.quantised import Purpose
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.history.walk import walk
from deltavcs.merging.combination import combine
from deltavcs.merging.counterparts import MergeInput
from deltavcs.merging.expression import transfer_program
from deltavcs.objects.model import Kind, Role
from deltavcs.oid import CommitId
from deltavcs.ranking.result import NotRanked
from deltavcs.repo import Repository
from deltavcs.steps.adapter_transfers import measure_adapter
from deltavcs.steps.naming import name_of, tips
from deltavcs.steps.operands import open_operands

_DIFFERING = (Kind.FINETUNE, Kind.MERGE, Kind.ADAPTER)


@dataclass(frozen=True, slots=True)
class RankedDelta:
    """A diff vector and how well its source base fits the target.

    Attributes:
        delta: the fine-tune m'_s, or the adapter; the diff vector is m'_s − m_s.
        source: its base m_s.
        relative_drift: ‖m_t − m_s‖ / ‖m_s‖; None for a zero base.
        cosine: between Δ_s and m_t − m_s; None if one of them is zero.
        delta_norm: ‖Δ_s‖.
    """

    rank: int
    delta: CommitId
    delta_name: str
    source: CommitId
    source_name: str
    task: str | None
    relative_drift: float | None
    cosine: float | None
    delta_norm: float

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class DeltaRanking:
    """Diff vectors by how near their source base lies to the target."""

    target: CommitId
    target_name: str
    ranked: tuple[RankedDelta, ...]
    failed: tuple[NotRanked, ...]

    __repr__ = brief


def rank_deltas(repo: Repository, target: str) -> DeltaRanking:
    """Order the diff vectors of the history for recycling onto `target`, adapters among them.

    Nearest source base first: ‖m_t − m_s‖ / ‖m_s‖; among those of one base, the larger cosine between Δ_s
    and m_t − m_s first. Of each branch only the last checkpoint counts; fine-tunes of the target itself
    are left out, as there is nothing to carry over.

    Raises:
        NotFoundError: an unknown revision.
        InvalidInputError: `incompatible` if the target is an adapter.
    """
    commit = repo.resolve(target)
    if repo.commit(commit).kind is Kind.ADAPTER:
        raise InvalidInputError(f"{target} is an adapter, not a base", kind=ErrorKind.INCOMPATIBLE)
    found: list[tuple[CommitId, CommitId, Geometry]] = []
    failed: list[NotRanked] = []
    for delta, source in _diff_vectors(repo, commit):
        try:
            found.append((delta, source, _measure(repo, commit, delta, source)))
        except InvalidInputError as exc:
            failed.append(NotRanked(delta, name_of(repo, delta), str(exc)))
    found.sort(key=_nearest)
    ranked = tuple(_ranked(repo, i, *one) for i, one in enumerate(found, start=1))
    return DeltaRanking(commit, name_of(repo, commit), ranked, tuple(failed))


def _diff_vectors(repo: Repository, target: CommitId) -> list[tuple[CommitId, CommitId]]:
    history = dict(walk(repo.objects, tips(repo)))
    superseded = {p for value in history.values() for p in value.parents_as(Role.PREVIOUS)}
    goal = repo.commit(target).manifest
    out = []
    for commit_id, value in history.items():
        base = value.parent_as(Role.BASE)
        carried = value.kind is Kind.ADAPTER and value.parents_as(Role.DELTA)
        if value.kind in _DIFFERING and base is not None and commit_id not in superseded and not carried:
            same = repo.commit(base).manifest == goal or value.manifest == goal
            out += [] if same else [(commit_id, base)]
    return out


def _measure(repo: Repository, target: CommitId, delta: CommitId, source: CommitId) -> Geometry:
    if repo.commit(delta).kind is Kind.ADAPTER:
        return measure_adapter(repo, delta, target)["all"]
    commits = (target, delta, source)
    names = [name_of(repo, c) for c in commits]
    manifests = open_operands(repo, commits, names, purpose=Purpose.RUN).manifests
    operands = [MergeInput(n, m) for n, m in zip(names, manifests, strict=True)]
    combination = combine(repo.objects, transfer_program(1.0), operands, is_transfer=True)
    return geometry(repo.objects, combination.triples, repo.resources)["all"]


def _nearest(one: tuple[CommitId, CommitId, Geometry]) -> tuple[float, float, str]:
    drift, cosine = one[2].relative_drift, one[2].cosine
    return (
        drift if drift is not None else float("inf"),
        -(cosine if cosine is not None else 0.0),
        one[0],
    )


def _ranked(
    repo: Repository, position: int, delta: CommitId, source: CommitId, found: Geometry
) -> RankedDelta:
    return RankedDelta(
        rank=position,
        delta=delta,
        delta_name=name_of(repo, delta),
        source=source,
        source_name=name_of(repo, source),
        task=repo.commit(delta).task,
        relative_drift=found.relative_drift,
        cosine=found.cosine,
        delta_norm=found.delta,
    )
