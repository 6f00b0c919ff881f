"""Fisher-weighted averaging. The result is stored as bytes: its statistics are no part of the history."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.tensors.cast import Float64Array


def fisher_average(
    parameters: Sequence[Float64Array],
    fishers: Sequence[Float64Array],
    *,
    weights: Sequence[float] | None = None,
    floor: float = 1e-6,
) -> Float64Array:
    """Average models element by element, each weighted by its diagonal Fisher information.

        θ*_j = Σ_i w_i·F̂_ij·θ_ij / Σ_i w_i·F̂_ij,     F̂_ij = max(F_ij, floor)

    with F_ij = E_x E_{y∼p(y|x)} (∂ log p(y|x) / ∂θ_ij)², gathered elsewhere. Element-wise, so a caller may
    pass block after block. Sums run from the left.

    Reference: Matena & Raffel, "Merging Models with Fisher-Weighted Averaging", NeurIPS 2022.

    Args:
        parameters: θ_i, float64, all of one shape.
        fishers: F_i >= 0, float64, the same shape, one per model.
        weights: w_i >= 0, not all zero; 1 each when None.
        floor: smallest information that counts; > 0. Where no model has information the result is the
            plain average.

    Returns:
        float64, the shape of the parameters.

    Raises:
        InvalidInputError: `bad-argument` for counts, weights or a floor that do not fit; `incompatible` for
            shapes that differ.
    """
    factors = [1.0] * len(parameters) if weights is None else list(weights)
    if not parameters or len(fishers) != len(parameters) or len(factors) != len(parameters):
        raise _bad("one Fisher diagonal and one weight per model, at least one model")
    if not floor > 0.0 or min(factors) < 0.0 or not 0.0 < sum(factors) < np.inf:
        raise _bad("the floor must be positive and the weights >= 0, not all zero")
    shapes = {array.shape for array in (*parameters, *fishers)}
    if len(shapes) != 1:
        raise InvalidInputError(f"shapes differ: {sorted(shapes)}", kind=ErrorKind.INCOMPATIBLE)
    numerator = np.zeros_like(parameters[0], dtype=np.float64)
    denominator = np.zeros_like(numerator)
    for theta, fisher, factor in zip(parameters, fishers, factors, strict=True):
        information = np.maximum(fisher, floor) * factor
        numerator += information * theta
        denominator += information
    result: Float64Array = numerator / denominator
    return result


def _bad(message: str) -> InvalidInputError:
    return InvalidInputError(message, kind=ErrorKind.BAD_ARGUMENT)
