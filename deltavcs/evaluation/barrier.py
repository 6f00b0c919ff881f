"""Linear connectivity: the loss along the straight line between two checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from deltavcs.errors import ErrorKind, InvalidInputError

if TYPE_CHECKING:
    import torch

    Lazy = torch.Tensor | Callable[[], torch.Tensor]

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


def interpolate_states(
    a: Mapping[str, Lazy], b: Mapping[str, Lazy], alpha: float
) -> dict[str, Callable[[], torch.Tensor]]:
    """(1−α)·A + α·B, tensor by tensor when asked.

    In float64, rounded once to A's dtype; α = 0 and α = 1 give A and B as they are. Tensors that are not
    floating point are A's.

    Raises:
        InvalidInputError: `incompatible` if names differ; when a tensor is asked for, if shapes do.
    """
    if a.keys() != b.keys():
        odd = sorted(a.keys() ^ b.keys())
        raise InvalidInputError(
            f"only one of the two has {', '.join(odd[:5])}{' …' if len(odd) > 5 else ''}",
            kind=ErrorKind.INCOMPATIBLE,
        )

    def mixed(name: str) -> Callable[[], torch.Tensor]:
        return lambda: _mix(name, a[name], b[name], alpha)

    return {name: mixed(name) for name in a}


def _mix(name: str, a: Lazy, b: Lazy, alpha: float) -> torch.Tensor:
    import torch

    if alpha == 0:
        return _force(a)
    if alpha == 1:
        return _force(b)
    left, right = _force(a), _force(b)
    if left.shape != right.shape:
        raise InvalidInputError(
            f"{name} has shape {list(left.shape)} in one and {list(right.shape)} in the other",
            kind=ErrorKind.INCOMPATIBLE,
        )
    if not left.is_floating_point():
        return left
    out = left.to(torch.float64, copy=True).mul_(1 - alpha)
    return out.add_(right.to(device=out.device, dtype=torch.float64), alpha=alpha).to(left.dtype)


def _force(value: Lazy) -> torch.Tensor:
    return value() if callable(value) else value
