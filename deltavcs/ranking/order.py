"""The order of evaluated checkpoints (Mashup Learning, Algorithm 1, step 1)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import Kind, Score
from deltavcs.oid import CommitId
from deltavcs.ranking.candidates import Candidate

METRICS = ("loss", "accuracy")


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A candidate and its score."""

    candidate: Candidate
    score: Score
    recalled: bool


def order(found: Iterable[Evaluated], metric: str) -> list[Evaluated]:
    """Best first: by loss, lowest first; or by accuracy, highest first, then loss. Ties go by commit id.

    π = argsort([ℓ_1, …, ℓ_N]) ascending (Mashup Learning, Algorithm 1); §5.1 ranks by accuracy as well.

    Raises:
        InvalidInputError: `bad-argument` for another metric.
    """
    check_metric(metric)

    def key(one: Evaluated) -> tuple[float, float, str]:
        accuracy = one.score.accuracy if one.score.accuracy is not None else -1.0
        first = one.score.loss if metric == "loss" else -accuracy
        return first, one.score.loss, one.candidate.commit

    return sorted(found, key=key)


def check_metric(metric: str) -> None:
    """Refuse an unknown metric. Raises InvalidInputError."""
    if metric not in METRICS:
        raise InvalidInputError(
            f"cannot rank by {metric!r}",
            kind=ErrorKind.BAD_ARGUMENT,
            advice=Advice.ONE_OF,
            facts={"choices": ", ".join(METRICS)},
        )


def choose_group(
    candidates: Sequence[Candidate], *, adapters: bool | None, describe: dict[CommitId, str]
) -> list[Candidate]:
    """The candidates that can be compared and merged with each other.

    Whole checkpoints, unless there are only adapters beside the bases or `adapters` says so.

    Args:
        adapters: True for adapters, False for whole checkpoints, None to go by what there is.
        describe: names, for the message.

    Raises:
        InvalidInputError: `bad-argument` if they are of several architectures.
    """
    if adapters is None:
        trained = [c for c in candidates if c.kind is not Kind.BASE]
        adapters = bool(trained) and all(c.is_adapter for c in trained)
    chosen = [c for c in candidates if c.is_adapter == adapters]
    groups: dict[str, list[Candidate]] = {}
    for candidate in chosen:
        groups.setdefault(candidate.group, []).append(candidate)
    if len(groups) > 1:
        shown = "; ".join(
            f"{len(group)} like {describe.get(group[0].commit, group[0].commit[:12])}"
            for group in sorted(groups.values(), key=len, reverse=True)[:4]
        )
        what = "kinds of adapters" if adapters else "architectures"
        raise InvalidInputError(
            f"there are checkpoints of {len(groups)} {what}: {shown}",
            kind=ErrorKind.BAD_ARGUMENT,
            advice=Advice.CHOOSE_ONE_KIND,
        )
    return chosen


def without_tasks(candidates: Iterable[Candidate], tasks: Collection[str]) -> list[Candidate]:
    """The candidates that none of `tasks` went into, directly or through a parent."""
    banned = frozenset(tasks)
    return [c for c in candidates if not (c.trained_on & banned)]
