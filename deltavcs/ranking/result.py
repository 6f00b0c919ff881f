"""What a ranking says."""

from __future__ import annotations

from dataclasses import dataclass

from deltavcs.brief import brief
from deltavcs.oid import CommitId


@dataclass(frozen=True, slots=True)
class Ranked:
    """One line of a ranking.

    Attributes:
        rank: from 1.
        accuracy: share of exact matches.
        task: what it was trained on, if said.
        base: name of what it was made from.
        recipe: how it was made, if it is derived.
        recalled: True if the score was there already.
        truncated: samples that were longer than the model can take, and cut.
    """

    rank: int
    commit: CommitId
    name: str
    kind: str
    loss: float
    accuracy: float | None
    task: str | None
    base: str | None
    recipe: str | None
    recalled: bool
    truncated: int

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class NotRanked:
    """A checkpoint without a place, and why."""

    commit: CommitId
    name: str
    why: str

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class Ranking:
    """Checkpoints by how well they do on samples of a task.

    Attributes:
        split: where the samples come from.
        substituted: True if that is not the training split, because there is none.
        n_samples: how many there were; fewer than `samples` in a small split.
        ranked: best first, all of them.
        top: the first k.
        failed: could not be evaluated.
        n_excluded: left out by the selection.
    """

    task: str
    task_fingerprint: str
    split: str
    substituted: bool
    samples: int
    n_samples: int
    seed: int
    metric: str
    ranked: tuple[Ranked, ...]
    top: tuple[Ranked, ...]
    failed: tuple[NotRanked, ...]
    n_excluded: int

    __repr__ = brief
