"""Which past checkpoints fit a new task best (Mashup Learning, step 1)."""

from __future__ import annotations

from dataclasses import replace

from deltavcs.ranking.result import Ranking
from deltavcs.repo import Repository
from deltavcs.steps.arguments import check_count
from deltavcs.steps.running import Running
from deltavcs.steps.scoring import rank_checkpoints
from deltavcs.steps.selecting import Selection


def rank(
    repo: Repository,
    task: str,
    k: int | None = None,
    *,
    selection: Selection | None = None,
    running: Running | None = None,
) -> Ranking:
    """Rank every compatible checkpoint by its loss on samples of a task's training split.

    Each score is kept as soon as it is known, so an interrupted run goes on where it was, and nothing is
    evaluated twice.

    Args:
        task: a task of the repository, or a built-in one.
        k: how many to put into `Ranking.top`; None for all.
        selection: which checkpoints take part, and the metric.
        running: how many rows, and where the models run.

    Raises:
        NotFoundError: no such task or revision, or no checkpoint that fits.
        InvalidInputError: `bad-task` rows; `bad-argument`, also if the history holds several architectures.
    """
    check_count(k, "k", least=1)
    found = rank_checkpoints(repo, task, selection or Selection(), running or Running())
    return replace(found, top=found.ranked[:k])
