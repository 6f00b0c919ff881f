"""TIES, DARE and DARE-TIES: merging sparse diff vectors. Input 0 is the base θ; δ_i = x_i − θ.

The equations are those of the operators in `deltavcs.operators.equations`; here their scalars are found.
Shapes: every x_i is float64 of shape (n,); so is the result. One rounding to the stored dtype follows.
"""

from __future__ import annotations

import math

from deltavcs.merging.blocks import TensorSource, delta_blocks, kth_largest_magnitudes
from deltavcs.merging.settings import DerivedPlan, Settings
from deltavcs.operators.mask import KEEP_ALL
from deltavcs.operators.parse import hex_scalar


def plan_ties(source: TensorSource, settings: Settings) -> DerivedPlan:
    """Plan TIES: trim each diff vector to its largest elements, elect signs, average what agrees.

        τ_i = the k_i-th largest |δ_i| of this tensor,   k_i = max(1, ⌊d_i·n⌋);  τ_i = 0 for d_i = 1
        kept where |δ_i| >= τ_i, so elements as large as the k-th are all kept

    One to four passes over the tensor find the τ_i exactly.

    Reference: Yadav et al., "TIES-Merging: Resolving Interference When Merging Models", NeurIPS 2023.
    The authors' code trims the flattened model at once; here, as in mergekit, each tensor is trimmed by
    itself, so that tensors can be merged, stored and read one by one.
    """
    thresholds = _thresholds(source, settings)
    return DerivedPlan(
        "ties",
        {
            "lambda": hex_scalar(settings.scale),
            "thresholds": [hex_scalar(threshold) for threshold in thresholds],
            "weights": [hex_scalar(weight) for weight in settings.weights],
        },
    )


def plan_dare(source: TensorSource, settings: Settings) -> DerivedPlan:
    """Plan DARE with task arithmetic: `θ + λ·Σ_i w_i·(mask_i ⊙ δ_i) / (1 − p_i)`, p_i = 1 − density_i.

    Reference: Yu et al., "Language Models are Super Mario: Absorbing Abilities from Homologous Models as a
    Free Lunch", ICML 2024.
    """
    scales = [weight / density for weight, density in zip(settings.weights, settings.density, strict=True)]
    return DerivedPlan("dare", _mask_params(source, settings, scales))


def plan_dare_ties(source: TensorSource, settings: Settings) -> DerivedPlan:
    """Plan DARE with TIES: random masks and rescaling in place of trimming, then elect and average.

    Reference: Yu et al., ICML 2024, section on merging with TIES; Yadav et al., NeurIPS 2023.
    """
    params = _mask_params(source, settings, [1.0 / density for density in settings.density])
    return DerivedPlan(
        "dare_ties", {**params, "weights": [hex_scalar(weight) for weight in settings.weights]}
    )


def _thresholds(source: TensorSource, settings: Settings) -> list[float]:
    if source.n == 0 or all(density == 1.0 for density in settings.density):
        return [0.0] * len(settings.density)
    ranks = [max(1, math.floor(density * source.n)) for density in settings.density]
    found = kth_largest_magnitudes(lambda: delta_blocks(source), ranks)
    return [0.0 if density == 1.0 else value for value, density in zip(found, settings.density, strict=True)]


def _mask_params(source: TensorSource, settings: Settings, scales: list[float]) -> dict[str, object]:
    return {
        "keep": [max(1, round(density * KEEP_ALL)) for density in settings.density],
        "lambda": hex_scalar(settings.scale),
        "scales": [hex_scalar(scale) for scale in scales],
        "seed": settings.seed,
        "tensor": source.name,
    }
