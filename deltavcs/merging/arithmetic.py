"""Sums of models: average, weighted average, task arithmetic. All are `linear` programs.

Shapes: every x_i is float64 of shape (n,); so is the result. One rounding to the stored dtype follows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.blocks import TensorSource
from deltavcs.merging.settings import DerivedPlan, Settings
from deltavcs.operators.parse import encode_program
from deltavcs.tensors.programs import Token


def plan_average(source: TensorSource, settings: Settings) -> DerivedPlan:
    """Plan the average of k models: `(x_0 + x_1 + … + x_{k−1}) ÷ k`, summed from the left.

    Reference: Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves
    accuracy without increasing inference time", ICML 2022; the default of Mashup Learning.
    """
    return DerivedPlan("linear", encode_program(_mean_program([1.0] * source.n_inputs)))


def plan_weighted(source: TensorSource, settings: Settings) -> DerivedPlan:
    """Plan the weighted average `(Σ_i w_i·x_i) ÷ W`, `W = Σ_i w_i`, both summed from the left.

    Raises:
        InvalidInputError: `bad-argument` if the weights add up to zero.
    """
    return DerivedPlan("linear", encode_program(_mean_program(settings.weights)))


def plan_task_arithmetic(source: TensorSource, settings: Settings) -> DerivedPlan:
    """Plan `θ + λ·Σ_i w_i·(x_i − θ)`; the base θ is input 0.

    Reference: Ilharco et al., "Editing Models with Task Arithmetic", ICLR 2023.
    """
    program: list[Token] = [0]
    for i, weight in enumerate(settings.weights, start=1):
        program += [i, 0, "-", *_times(weight)]
        if i > 1:
            program.append("+")
    return DerivedPlan("linear", encode_program([*program, *_times(settings.scale), "+"]))


def weights_from_scores(
    values: Sequence[float], *, higher_is_better: bool, temperature: float = 1.0
) -> tuple[float, ...]:
    """Turn scores on one task into weights of a weighted average.

        higher is better (accuracy):   w_i = v_i
        lower is better (loss):        w_i = exp(−(v_i − min_j v_j) / T)

    Args:
        values: one finite score per model; accuracies are >= 0.
        higher_is_better: which of the two.
        temperature: T > 0, in units of the loss; large T approaches equal weights.

    Raises:
        InvalidInputError: `bad-argument` for no, not finite or negative scores, or T <= 0.
    """
    if not values or not all(math.isfinite(value) for value in values):
        raise _bad("scores must be finite numbers, at least one")
    if higher_is_better:
        if min(values) < 0 or max(values) == 0:
            raise _bad("scores used as weights must be positive")
        return tuple(float(value) for value in values)
    if not temperature > 0:
        raise _bad("the temperature must be positive")
    best = min(values)
    return tuple(math.exp(-(value - best) / temperature) for value in values)


def _mean_program(weights: Sequence[float]) -> list[Token]:
    total = 0.0
    program: list[Token] = []
    for i, weight in enumerate(weights):
        program += [i, *_times(weight)]
        if i:
            program.append("+")
        total += weight
    if not 0.0 < total < math.inf:
        raise _bad(f"the weights add up to {total}")
    return program if total == 1.0 else [*program, ("/", total)]


def _times(scalar: float) -> list[Token]:
    """Return the token that scales by `scalar`; nothing for 1, which changes no bit."""
    return [] if scalar == 1.0 else [("*", scalar)]


def _bad(message: str) -> InvalidInputError:
    return InvalidInputError(message, kind=ErrorKind.BAD_ARGUMENT)
