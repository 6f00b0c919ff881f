"""Linear connectivity: the loss along the straight line between two checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from deltavcs.brief import brief
from deltavcs.errors import ErrorKind, InvalidInputError

StateT = TypeVar("StateT")

DEFAULT_POINTS = 11


@dataclass(frozen=True, slots=True)
class Connectivity:
    """The loss along a segment.

    Attributes:
        alphas: 0 … 1, evenly spaced.
        losses: loss((1−α)·A + α·B), one per α.
        barrier: max over α of loss(α) − ((1−α)·loss(0) + α·loss(1)); never below 0, as it is 0 at the ends.
            NaN or infinite if a loss is.
        barrier_alpha: the α of that maximum, the smallest if several.
    """

    alphas: tuple[float, ...]
    losses: tuple[float, ...]
    barrier: float
    barrier_alpha: float

    __repr__ = brief


def measure_connectivity(
    evaluate: Callable[[StateT], float],
    interpolate: Callable[[float], StateT],
    *,
    points: int = DEFAULT_POINTS,
    progress: Callable[[int, int], None] | None = None,
) -> Connectivity:
    """Evaluate `points` evenly spaced states of a segment.

    Args:
        evaluate: state → loss.
        interpolate: α → state; called in ascending order, α exactly 0 first and exactly 1 last.
        points: at least 2.
        progress: called with (points done, points).

    Raises:
        InvalidInputError: `bad-argument` for fewer than 2 points.
    """
    if points < 2:
        raise InvalidInputError(
            f"{points} points do not make a segment; use at least 2", kind=ErrorKind.BAD_ARGUMENT
        )
    alphas = tuple(i / (points - 1) for i in range(points))
    losses: list[float] = []
    for alpha in alphas:
        losses.append(evaluate(interpolate(alpha)))
        if progress is not None:
            progress(len(losses), points)
    barrier, at = barrier_height(alphas, losses)
    return Connectivity(alphas=alphas, losses=tuple(losses), barrier=barrier, barrier_alpha=at)


def barrier_height(alphas: Sequence[float], losses: Sequence[float]) -> tuple[float, float]:
    """The barrier and its α (Frankle et al., "Linear Mode Connectivity and the Lottery Ticket Hypothesis").

    Entezari et al. ("The Role of Permutation Invariance in Linear Mode Connectivity", def. 1) measure against
    the line between the end points, as here, so that a segment between unequal ends can have no barrier.
    """
    if not all(math.isfinite(loss) for loss in losses):
        worst = next(i for i, loss in enumerate(losses) if not math.isfinite(loss))
        return losses[worst], alphas[worst]
    first, last = losses[0], losses[-1]
    heights = [
        loss - ((1 - alpha) * first + alpha * last) for alpha, loss in zip(alphas, losses, strict=True)
    ]
    heights[0] = heights[-1] = 0.0
    best = max(range(len(heights)), key=lambda i: heights[i])
    return heights[best], alphas[best]
