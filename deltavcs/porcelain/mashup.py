"""`dvx mashup`: rank, merge the best, commit the initialisation.

Mashup Learning (Lo Cicero Vaina et al.), Algorithm 1, steps 1 and 2; step 3 is the user's own training.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.arithmetic import weights_from_scores
from deltavcs.merging.settings import Options
from deltavcs.porcelain.merge import Merged, Sampling, merge
from deltavcs.porcelain.rank import Ranked, Ranking, Running, Selection, rank
from deltavcs.refs import check_name
from deltavcs.repo import Repository
from deltavcs.resources import Resources
from deltavcs.signature import Signature
from deltavcs.tasks.sampling import DEFAULT_SAMPLES

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


def mashup(
    repo: Repository,
    task: str,
    k: int = DEFAULT_K,
    *,
    name: str,
    method: str = "average",
    options: Options | None = None,
    exact: bool = False,
    samples: int = DEFAULT_SAMPLES,
    seed: int = 0,
    metric: str = "loss",
    selection: Selection | None = None,
    running: Running | None = None,
    message: str = "",
    dry_run: bool = False,
    signature: Signature,
    resources: Resources | None = None,
) -> Mashup:
    """Merge the k checkpoints that do best on a task, as the start of training for it.

        θ* = (1/k) Σ θ_{π_i}, i = 1 … k        (with `average`, the default)

    Bases take no part unless the selection says so, and of each branch only the last checkpoint does: two
    neighbours of one run are nearly the same model.

    Args:
        options: the method's parameters; `weighted` takes its weights from the scores if none are given.
        exact: merge adapters through their products.
        dry_run: rank, and plan the merge, but commit nothing. Scores are kept.

    Raises:
        NotFoundError: no such task, or no checkpoint to rank.
        InvalidInputError: as `rank` and `merge` raise; `bad-argument` if fewer than k can be ranked.
    """
    check_name(name)
    if k < 1:
        raise InvalidInputError(f"cannot merge {k} checkpoints", kind=ErrorKind.BAD_ARGUMENT)
    running = running or Running()
    chosen_from = selection or Selection(bases=False, last_only=True)
    ranking = rank(
        repo,
        task,
        k,
        samples=samples,
        seed=seed,
        metric=metric,
        selection=chosen_from,
        running=running,
        signature=replace(signature, message=f"rank for {name}"),
        resources=resources,
    )
    chosen = ranking.top
    if len(chosen) < k:
        raise InvalidInputError(
            f"only {len(chosen)} of the {k} checkpoints asked for can be ranked on {task}",
            kind=ErrorKind.BAD_ARGUMENT,
            hint="Ask for fewer with --k, or see 'dvx rank' for what stands in the way.",
        )
    merged = merge(
        repo,
        [c.commit for c in chosen],
        name=name,
        method=method,
        options=_options(method, options or {}, chosen, metric),
        exact=exact,
        sampling=Sampling((task,), samples, seed, running.devices[0], running.hub),
        message=message or f"mashup of the best {len(chosen)} for {task}",
        metadata=_facts(ranking, chosen),
        dry_run=dry_run,
        signature=signature,
        resources=resources,
    )
    return Mashup(chosen, ranking, merged)


def _options(method: str, options: Options, chosen: tuple[Ranked, ...], metric: str) -> Options:
    if method != "weighted" or options.get("weights") is not None:
        return options
    by_accuracy = metric == "accuracy"
    values = [(c.accuracy or 0.0) if by_accuracy else c.loss for c in chosen]
    return {**options, "weights": list(weights_from_scores(values, higher_is_better=by_accuracy))}


def _facts(ranking: Ranking, chosen: tuple[Ranked, ...]) -> dict[str, str]:
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
