"""Scores in short, for what is shown of a commit. Reads objects and refs only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from deltavcs.objects.model import AUTO_DTYPE, Commit, Role, Score
from deltavcs.oid import ManifestId
from deltavcs.repo import Repository


@dataclass(frozen=True, slots=True)
class ScoreLine:
    """One score of a checkpoint.

    Attributes:
        accuracy: share of exact matches.
        samples: rows it was measured on.
        dtype: of the parameters; `auto` for the checkpoint's own.
        fingerprint: of the task's rows, template and split as they were then.
    """

    task: str
    loss: float
    accuracy: float | None
    samples: int
    split: str
    seed: int
    dtype: str
    fingerprint: str


def all_scores(repo: Repository) -> Iterator[Score]:
    """Every score of the repository."""
    for oid in repo.refs.all("refs/scores").values():
        yield repo.objects.get_score(oid)


class ScoreBook:
    """All scores of a repository, by what was measured."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._by_manifest: dict[ManifestId, list[Score]] = {}
        for score in all_scores(repo):
            self._by_manifest.setdefault(score.manifest, []).append(score)

    def of(self, value: Commit) -> tuple[ScoreLine, ...]:
        """Scores of a commit's content, whichever commit they were measured on.

        By task; of one task, those that say most come first: on more samples, in the checkpoint's own dtype.
        """
        found = self._by_manifest.get(value.manifest, [])
        below = self._below(value) if any(s.base is not None for s in found) else None
        fitting = [s for s in found if s.base in (None, below)]
        return tuple(_line(s) for s in sorted(fitting, key=_order))

    def _below(self, value: Commit) -> ManifestId | None:
        base = value.parent_as(Role.BASE)
        return self._repo.commit(base).manifest if base is not None else None


def _order(s: Score) -> tuple[str, int, bool, int, int, float]:
    return s.task, -s.samples, s.dtype != AUTO_DTYPE, s.seed, -s.evaluator, s.loss


def _line(s: Score) -> ScoreLine:
    return ScoreLine(s.task, s.loss, s.accuracy, s.samples, s.split, s.seed, s.dtype, s.task_fingerprint)
