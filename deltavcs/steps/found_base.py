"""A base, and how it was found."""

from __future__ import annotations

from dataclasses import dataclass

from deltavcs.brief import brief
from deltavcs.checkpoint.base_search import NEAR
from deltavcs.oid import CommitId


@dataclass(frozen=True, slots=True)
class RunnerUp:
    """Another checkpoint, and its relative distance; None if its tensors are others."""

    name: str
    distance: float | None


@dataclass(frozen=True, slots=True)
class Base:
    """The base of a fine-tune and how it was found.

    Attributes:
        how: `given`; `marker`, from what a checkout left; `previous`, the base of the branch's last commit;
            `inferred`, by the weights or, for an adapter, by the shapes; `config`, from what
            adapter_config.json names; `copy`, the base of a commit that has these very weights.
        distance: relative distance of sampled weights; None if there are none to compare.
        init: the adapter that training went on from; it sits on the base, so it cannot be one.
        runner_up: where it was inferred by weights, who came second.
        nearer: where the base was given or marked and is unrelated, what is near.
        passed_over: what the marker or the branch said, if the weights are unrelated to that and near this.
        named: for an adapter, what its configuration says that it sits on, if that was not found.
    """

    commit: CommitId
    name: str
    how: str
    distance: float | None = None
    init: CommitId | None = None
    runner_up: RunnerUp | None = None
    nearer: RunnerUp | None = None
    passed_over: RunnerUp | None = None
    named: str | None = None

    __repr__ = brief

    @property
    def is_unrelated(self) -> bool:
        """True if the weights are so far from it that it hardly can be the base."""
        return self.distance is not None and self.distance > NEAR
