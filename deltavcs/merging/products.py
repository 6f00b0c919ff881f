"""Merging LoRA adapters through their products. Averaging factor by factor is `average` on each factor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.tensors.cast import Float64Array


@dataclass(frozen=True, slots=True)
class LoraFactors:
    """One adapted layer: ΔW = scale·B·A.

    Attributes:
        a: float64, shape (r, in).
        b: float64, shape (out, r).
        scale: α/r, or α/√r for rank-stabilised LoRA.
    """

    a: Float64Array
    b: Float64Array
    scale: float


@dataclass(frozen=True, slots=True)
class LoraMerge:
    """A merged layer with scale 1: ΔW ≈ B·A.

    Attributes:
        a: float64, shape (rank, in).
        b: float64, shape (out, rank).
        relative_error: ‖ΔW − B·A‖ / ‖ΔW‖ in the Frobenius norm; 0 where nothing was cut off.
    """

    a: Float64Array
    b: Float64Array
    relative_error: float


def merge_lora_exact(
    factors: Sequence[LoraFactors], weights: Sequence[float], rank: int | None = None
) -> LoraMerge:
    """Merge adapters through the products: the sum itself, not the product of averaged factors.

        ΔW = Σ_i w_i·scale_i·B_i A_i

    Stacking gives it exactly with rank R = Σ r_i: B = [w_1·scale_1·B_1 …], A = [A_1; …]. A rank below R is
    reached by the truncated singular value decomposition, the best approximation of that rank (Eckart and
    Young, 1936), computed from QR factors of the stacks so that ΔW (out × in) is never formed:
    B = Q_b R_b, Aᵀ = Q_a R_a, R_b R_aᵀ = U Σ Vᵀ; B ← Q_b U Σ^½, A ← Σ^½ Vᵀ Q_aᵀ.

    Reference: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, for the product.

    Args:
        factors: one per adapter; ranks may differ, `in` and `out` may not.
        weights: w_i, finite; 1/k each for the average.
        rank: of the result; None for R. Above R the factors are padded with zeros.

    Raises:
        InvalidInputError: `bad-argument` for counts, weights or rank; `incompatible` for shapes.
    """
    _check(factors, weights, rank)
    a = np.concatenate([factor.a for factor in factors], axis=0)
    b = np.concatenate(
        [factor.b * (weight * factor.scale) for factor, weight in zip(factors, weights, strict=True)], axis=1
    )
    full = a.shape[0]
    if rank is None or rank == full:
        return LoraMerge(a, b, 0.0)
    if rank > full:
        missing = rank - full
        return LoraMerge(np.pad(a, ((0, missing), (0, 0))), np.pad(b, ((0, 0), (0, missing))), 0.0)
    return _truncate(a, b, rank)


def _truncate(a: Float64Array, b: Float64Array, rank: int) -> LoraMerge:
    q_b, r_b = np.linalg.qr(b)
    q_a, r_a = np.linalg.qr(a.T)
    u, sigma, v_t = np.linalg.svd(r_b @ r_a.T, full_matrices=False)
    kept = min(rank, sigma.size)
    root = np.sqrt(sigma[:kept])
    new_b = np.zeros((b.shape[0], rank))
    new_a = np.zeros((rank, a.shape[1]))
    new_b[:, :kept] = (q_b @ u[:, :kept]) * root
    new_a[:kept] = root[:, None] * (v_t[:kept] @ q_a.T)
    whole = float(np.linalg.norm(sigma))
    lost = float(np.linalg.norm(sigma[kept:]))
    return LoraMerge(new_a, new_b, lost / whole if whole > 0.0 else 0.0)


def _check(factors: Sequence[LoraFactors], weights: Sequence[float], rank: int | None) -> None:
    if not factors or len(weights) != len(factors) or not np.isfinite(weights).all():
        raise InvalidInputError(
            "one finite weight per adapter, at least one adapter", kind=ErrorKind.BAD_ARGUMENT
        )
    if rank is not None and rank < 1:
        raise InvalidInputError(f"the rank is at least 1, not {rank}", kind=ErrorKind.BAD_ARGUMENT)
    out, width = factors[0].b.shape[0], factors[0].a.shape[1]
    for factor in factors:
        if factor.a.shape != (factor.b.shape[1], width) or factor.b.shape[0] != out:
            raise InvalidInputError(
                f"factors {factor.b.shape} and {factor.a.shape} do not make a ({out}, {width}) update",
                kind=ErrorKind.INCOMPATIBLE,
            )
