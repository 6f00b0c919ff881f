"""RegMean: merging linear layers by regression on their inputs. The result is stored as bytes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.tensors.cast import Float64Array


def regmean(
    layers: Iterable[tuple[Float64Array, Float64Array]], *, alpha: float = 0.9, ridge: float = 1e-9
) -> Float64Array:
    """Merge one linear layer so that its outputs come closest to every model's on that model's inputs.

    For layers y = x·W_iᵀ with N_i input rows X_i, minimising Σ_i ‖X_i Wᵀ − X_i W_iᵀ‖² / N_i gives

        W = (Σ_i W_i Ĝ_i) (Σ_i Ĝ_i)⁻¹,    G_i = X_iᵀ X_i / N_i,    Ĝ_i = α·G_i + (1−α)·diag(G_i) + ε·I

    which is the paper's (Σ Ĝ_i)⁻¹ Σ Ĝ_i W_i transposed, since torch keeps weights as (out, in). The paper's
    G_i is the sum X_iᵀ X_i; the mean gives every model the same say however many rows it saw, and is what
    `deltavcs.merging.gathering` gathers. With one number of rows for all models the two give the same W.
    ε = ridge · mean(diag G_i over all i) keeps the system solvable where an input feature never fires; there
    the result is the plain average. ridge = 0 is the closed form itself.
    Embeddings, norms and biases have no Gram matrix: average them.

    Reference: Jin et al., "Dataless Knowledge Fusion by Merging Weights of Language Models", ICLR 2023.

    Args:
        layers: (W_i, G_i) per model, float64, shapes (out, in) and (in, in). Read once and one at a time, so
            a generator keeps a single model's matrices in memory. G_i are symmetric.
        alpha: factor of the off-diagonal elements, 0 <= α <= 1; 0 weighs each input feature by itself.
        ridge: >= 0.

    Returns:
        float64, shape (out, in).

    Raises:
        InvalidInputError: `bad-argument` for no layers, α or ridge out of range, or a singular sum of Gram
            matrices; `incompatible` for shapes that differ.
    """
    if not 0.0 <= alpha <= 1.0 or not ridge >= 0.0:
        raise _bad("alpha is from 0 to 1 and ridge is at least 0")
    n_models, trace = 0, 0.0
    products: Float64Array | None = None
    for weight, gram in layers:
        _check_shapes(weight, gram, weight.shape if products is None else products.shape)
        if products is None:
            products, grams, total = np.zeros_like(weight), np.zeros_like(gram), np.zeros_like(weight)
        scaled = gram * alpha
        np.fill_diagonal(scaled, np.diagonal(gram))
        products += weight @ scaled
        grams += scaled
        total += weight
        trace += float(np.trace(gram))
        n_models += 1
    if products is None:
        raise _bad("RegMean needs at least one layer")
    n_features = grams.shape[0]
    epsilon = ridge * trace / (n_models * max(1, n_features)) if trace > 0.0 else float(ridge > 0.0)
    grams[np.diag_indices(n_features)] += n_models * epsilon
    products += epsilon * total
    return _solve(grams, products)


def _solve(grams: Float64Array, products: Float64Array) -> Float64Array:
    try:
        solved = np.linalg.solve(grams, products.T)
    except np.linalg.LinAlgError as exc:
        raise InvalidInputError(
            "the Gram matrices add up to a singular one",
            kind=ErrorKind.BAD_ARGUMENT,
            advice=Advice.RELAX_REGRESSION,
        ) from exc
    return np.ascontiguousarray(solved.T, dtype=np.float64)


def _check_shapes(weight: Float64Array, gram: Float64Array, expected: tuple[int, ...]) -> None:
    if weight.ndim != 2 or weight.shape != expected or gram.shape != (weight.shape[1],) * 2:
        raise InvalidInputError(
            f"weight {weight.shape} and Gram matrix {gram.shape} do not fit together or the models before",
            kind=ErrorKind.INCOMPATIBLE,
        )


def _bad(message: str) -> InvalidInputError:
    return InvalidInputError(message, kind=ErrorKind.BAD_ARGUMENT)
