"""Rank, merge the best, commit the initialisation.

Mashup Learning (Lo Cicero Vaina et al.), Algorithm 1, steps 1 and 2; step 3 is the user's own training.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from deltavcs.advice import Advice
from deltavcs.brief import brief
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.arithmetic import weights_from_scores
from deltavcs.merging.settings import MergeMethod
from deltavcs.objects.model import Kind
from deltavcs.ranking.result import Ranked, Ranking
from deltavcs.refs import check_name
from deltavcs.repo import Repository
from deltavcs.steps.branches import check_kind
from deltavcs.steps.merge_plans import plan_merge
from deltavcs.steps.merges import (
    Merged,
    describe_merge,
    merge_facts,
    merging,
    record_merge,
)
from deltavcs.steps.recording import Draft
from deltavcs.steps.running import Running
from deltavcs.steps.scoring import rank_checkpoints
from deltavcs.steps.selecting import Selection

DEFAULT_K = 2


@dataclass(frozen=True, slots=True)
class Mashup:
    """An initialisation and where it came from.

    Attributes:
        chosen: the checkpoints that were merged, best first.
        ranking: all that were ranked.
        merged: the commit.
    """

    chosen: tuple[Ranked, ...]
    ranking: Ranking
    merged: Merged

    __repr__ = brief


def mashup(
    repo: Repository,
    task: str,
    k: int = DEFAULT_K,
    *,
    draft: Draft,
    method: MergeMethod | None = None,
    selection: Selection | None = None,
    running: Running | None = None,
    dry_run: bool = False,
) -> Mashup:
    """Merge the k checkpoints that do best on a task, as the start of training for it.

        θ* = (1/k) Σ θ_{π_i}, i = 1 … k        (with `average`, the default)

    Bases take no part unless the selection says so, and of each branch only the last checkpoint does: two
    neighbours of one run are nearly the same model.

    Args:
        draft: the branch, which must be named; message and metadata.
        method: how to merge; `weighted` takes its weights from the scores if none are given.
        selection: which checkpoints take part, and the metric.
        running: how many rows, and where the models run.
        dry_run: rank, and plan the merge, but commit nothing. Scores are kept.

    Raises:
        NotFoundError: no such task, or no checkpoint to rank.
        AlreadyExistsError: `ref-exists` if the branch holds something else.
        InvalidInputError: as `rank` and `merge` raise; `bad-argument` if fewer than k can be ranked.
    """
    check_name(draft.name or "")
    if k < 1:
        raise InvalidInputError(f"cannot merge {k} checkpoints", kind=ErrorKind.BAD_ARGUMENT)
    draft = draft.signed(repo, f"mashup for {task}")
    check_kind(repo, draft, Kind.MERGE, Kind.ADAPTER)
    method, running = method or MergeMethod(), running or Running()
    selection = selection or Selection(bases=False, last_only=True)
    ranking = rank_checkpoints(repo, task, selection, running, why=f"rank for {draft.name}")
    chosen = ranking.ranked[:k]
    if len(chosen) < k:
        raise InvalidInputError(
            f"only {len(chosen)} of the {k} checkpoints asked for can be ranked on {task}",
            kind=ErrorKind.BAD_ARGUMENT,
            advice=Advice.FEWER_CHECKPOINTS,
        )
    plan = plan_merge(repo, [c.commit for c in chosen], _weighted(method, chosen, selection.metric))
    with merging(repo, plan, (task,), running) as computed:
        recorded = None
        if not dry_run:
            facts = {**merge_facts(plan, computed), **_ranking_facts(ranking, chosen), **draft.metadata}
            message = draft.message or f"mashup of the best {len(chosen)} for {task}"
            recorded = record_merge(repo, plan, computed, replace(draft, message=message, metadata=facts))
        merged = describe_merge(repo, plan, computed, recorded)
    return Mashup(chosen, replace(ranking, top=chosen), merged)


def _weighted(method: MergeMethod, chosen: tuple[Ranked, ...], metric: str) -> MergeMethod:
    """The method, with weights from the scores where it needs some and has none."""
    if method.name != "weighted" or method.options.get("weights") is not None:
        return method
    by_accuracy = metric == "accuracy"
    values = [(c.accuracy or 0.0) if by_accuracy else c.loss for c in chosen]
    weights = list(weights_from_scores(values, higher_is_better=by_accuracy))
    return replace(method, options={**method.options, "weights": weights})


def _ranking_facts(ranking: Ranking, chosen: tuple[Ranked, ...]) -> dict[str, str]:
    """What the history keeps of the ranking, beside the scores themselves."""
    facts = {
        "mashup.task": ranking.task,
        "mashup.task-fingerprint": ranking.task_fingerprint,
        "mashup.split": ranking.split,
        "mashup.samples": str(ranking.samples),
        "mashup.seed": str(ranking.seed),
        "mashup.metric": ranking.metric,
        "mashup.ranked": str(len(ranking.ranked)),
    }
    for one in chosen:
        accuracy = "" if one.accuracy is None else f", accuracy {one.accuracy:.6g}"
        facts[f"mashup.input.{one.rank}"] = f"{one.commit} {one.name}: loss {one.loss:.6g}{accuracy}"
    return facts
