"""The derived operators as equations (spec v1-derived §4).

Every `+`, `−`, `×`, `÷` below is one IEEE 754 binary64 operation rounded to nearest even, done in the order
written; none may be fused with its neighbour. Comparisons with NaN are false. numpy runs each Python operator
as a separate pass over memory, so no compiler sees two of them together.

Symbols: x_0 = θ is the base, x_1 … x_k the fine-tunes, δ_i = x_i − θ, λ the scale, w_i the weights. Every x_i
is float64 of shape (n,); so is each result. What overflows or is no number warns as numpy is told to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deltavcs.operators.mask import keep_mask
from deltavcs.tensors.cast import Float64Array
from deltavcs.tensors.programs import Token


@dataclass(frozen=True, slots=True)
class Linear:
    """A postfix program over the inputs.

    Attributes:
        program: an integer pushes that input; `"+"` and `"-"` replace the top two, a (below) and b (top),
            by a + b or a − b; `("*", s)` and `("/", s)` replace the top a by a·s or a ÷ s.
    """

    program: tuple[Token, ...]

    def run(self, inputs: Sequence[Float64Array], start: int) -> Float64Array:
        """Evaluate the program on one block; the result may be one of the inputs itself."""
        stack: list[Float64Array] = []
        for token in self.program:
            if isinstance(token, int):
                stack.append(inputs[token])
            elif isinstance(token, tuple):
                a = stack.pop()
                stack.append(a * token[1] if token[0] == "*" else a / token[1])
            else:
                b = stack.pop()
                a = stack.pop()
                stack.append(a + b if token == "+" else a - b)
        return stack[0]


@dataclass(frozen=True, slots=True)
class Ties:
    """Trim, elect sign, disjoint merge.

        δ̂_i = δ_i where |δ_i| >= τ_i, else 0
        out = θ + λ·disjoint_mean(w_i·δ̂_i)          see `disjoint_mean`

    Reference: Yadav et al., "TIES-Merging: Resolving Interference When Merging Models", NeurIPS 2023.

    Attributes:
        thresholds: τ_i, one per fine-tune, >= 0.
        weights: w_i, one per fine-tune, >= 0.
        scale: λ.
    """

    thresholds: tuple[float, ...]
    weights: tuple[float, ...]
    scale: float

    def run(self, inputs: Sequence[Float64Array], start: int) -> Float64Array:
        """Evaluate on one block."""
        base = inputs[0]
        terms = []
        for tuned, threshold, weight in zip(inputs[1:], self.thresholds, self.weights, strict=True):
            delta = tuned - base
            terms.append(_where(abs(delta) >= threshold, delta) * weight)
        return base + disjoint_mean(terms, self.weights) * self.scale


@dataclass(frozen=True, slots=True)
class Masks:
    """The random masks of a merge, one per fine-tune.

    Attributes:
        keys: from `mask_key`.
        keep: kept elements of every 2^32.
        scales: s_i, the factor of what is kept.
    """

    keys: tuple[int, ...]
    keep: tuple[int, ...]
    scales: tuple[float, ...]

    def apply(self, i: int, delta: Float64Array, start: int) -> Float64Array:
        """Return mask_i ⊙ δ_i · s_i, with +0.0 · s_i where dropped."""
        kept = keep_mask(self.keys[i], self.keep[i], start, delta.size)
        return _where(kept, delta) * self.scales[i]


@dataclass(frozen=True, slots=True)
class Dare:
    """Drop and rescale, then add.

        out = θ + λ·Σ_i (mask_i ⊙ δ_i)·s_i           summed from the left; s_i = w_i / (1 − p_i)

    Reference: Yu et al., "Language Models are Super Mario: Absorbing Abilities from Homologous Models as a
    Free Lunch", ICML 2024.

    Attributes:
        masks: of the fine-tunes.
        scale: λ.
    """

    masks: Masks
    scale: float

    def run(self, inputs: Sequence[Float64Array], start: int) -> Float64Array:
        """Evaluate on one block whose first element has the flat index `start`."""
        base = inputs[0]
        total = self.masks.apply(0, inputs[1] - base, start)
        for i, tuned in enumerate(inputs[2:], start=1):
            total = total + self.masks.apply(i, tuned - base, start)
        return base + total * self.scale


@dataclass(frozen=True, slots=True)
class DareTies:
    """Drop and rescale, then elect sign and merge disjointly.

        out = θ + λ·disjoint_mean(w_i·((mask_i ⊙ δ_i)·s_i))       s_i = 1 / (1 − p_i)

    Reference: Yu et al., ICML 2024, with Yadav et al., NeurIPS 2023; the mask takes the place of trimming.

    Attributes:
        masks: of the fine-tunes.
        weights: w_i, one per fine-tune, >= 0.
        scale: λ.
    """

    masks: Masks
    weights: tuple[float, ...]
    scale: float

    def run(self, inputs: Sequence[Float64Array], start: int) -> Float64Array:
        """Evaluate on one block whose first element has the flat index `start`."""
        base = inputs[0]
        terms = [
            self.masks.apply(i, tuned - base, start) * weight
            for i, (tuned, weight) in enumerate(zip(inputs[1:], self.weights, strict=True))
        ]
        return base + disjoint_mean(terms, self.weights) * self.scale


def disjoint_mean(terms: Sequence[Float64Array], weights: Sequence[float]) -> Float64Array:
    """Weighted mean of the terms whose sign is the elected one.

        γ = sgn(Σ_i t_i);  A = {i : t_i ≠ 0, sgn(t_i) = γ}
        out = Σ_{i∈A} t_i / Σ_{i∈A} w_i,   +0.0 where A is empty or that sum of weights is 0

    All sums run from the left; terms outside A add +0.0. Where the terms cancel exactly (γ = 0) no sign is
    elected, A is empty and the base is kept.

    Args:
        terms: t_i = w_i·δ̂_i, float64, all of one shape.
        weights: w_i >= 0.
    """
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    positive, negative = total > 0.0, total < 0.0
    numerator = denominator = np.empty(0)
    for i, (term, weight) in enumerate(zip(terms, weights, strict=True)):
        agrees = (positive & (term > 0.0)) | (negative & (term < 0.0))
        part, mass = _where(agrees, term), agrees.astype(np.float64) * weight
        numerator = numerator + part if i else part
        denominator = denominator + mass if i else mass
    return _where(denominator > 0.0, numerator / denominator)


def _where(condition: npt.NDArray[np.bool_], chosen: Float64Array) -> Float64Array:
    """`chosen` where `condition` holds, +0.0 elsewhere."""
    return np.where(condition, chosen, 0.0)
