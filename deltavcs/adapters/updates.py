"""What an adapter does to a weight, as two factors: norms and scalar products without the matrix.

B·A is the same for B·R and R⁻¹·A, so factors say nothing by themselves: what is measured and compared is the
product. Nothing here is larger than the factors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deltavcs.adapters.factors import Factors, load_low_rank
from deltavcs.objects.store import ObjectStore

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Update:
    """A matrix `left · right` of the shape of a weight.

    Attributes:
        left: float64, shape (rows, r); the scale of the adapter is in it.
        right: float64, shape (r, columns).
    """

    left: Float64Array
    right: Float64Array

    @property
    def rank(self) -> int:
        """R, the most that the rank of the matrix can be."""
        return int(self.right.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """Of the matrix."""
        return int(self.left.shape[0]), int(self.right.shape[1])

    def norm(self) -> float:
        """‖left · right‖ in the Frobenius norm, from the triangular factors of both.

        With left = Q₁R₁ and rightᵀ = Q₂R₂ it is ‖R₁R₂ᵀ‖, which keeps its digits where a difference of two
        nearly equal updates has lost all of those of tr(leftᵀleft · right rightᵀ).
        """
        with np.errstate(all="ignore"):
            left = np.asarray(np.linalg.qr(self.left, mode="r"))
            right = np.asarray(np.linalg.qr(self.right.T, mode="r"))
            return float(np.linalg.norm(left @ right.T))

    def dot(self, other: Update) -> float:
        """The sum of the products of elements, by the r × r matrices leftᵀ·left' and right·right'ᵀ."""
        with np.errstate(all="ignore"):
            return float(np.sum((self.left.T @ other.left) * (self.right @ other.right.T)))

    def minus(self, other: Update) -> Update:
        """The difference of two updates of one shape: its rank is at most the sum of both."""
        return Update(
            np.concatenate([self.left, -other.left], axis=1), np.concatenate([self.right, other.right])
        )

    def dot_rows(self, start: int, rows: Float64Array) -> float:
        """The scalar product of the update's rows `start` to `start + k` with `rows`, shape (k, columns)."""
        with np.errstate(all="ignore"):
            return float(np.sum((rows @ self.right.T) * self.left[start : start + rows.shape[0]]))


def updates_of(objects: ObjectStore, found: Sequence[Factors]) -> Iterator[tuple[int, Update]]:
    """The updates of one tensor of the base: the first row that each changes, and what is added to it.

    Updates of the same rows, as of several adapted parameters of one module, are put together.
    """
    by_row: dict[tuple[int, int], Update] = {}
    for factors in found:
        loaded = load_low_rank(objects, factors)
        for expert in range(loaded.left.shape[0]):
            left, right = loaded.left[expert] * loaded.scale, loaded.right[expert]
            rows = (factors.at + expert * left.shape[0], left.shape[0])
            update, before = Update(left, right), by_row.get(rows)
            by_row[rows] = update if before is None else _plus(before, update)
    for (row, _), update in by_row.items():
        yield row, update


def _plus(one: Update, other: Update) -> Update:
    return Update(np.concatenate([one.left, other.left], axis=1), np.concatenate([one.right, other.right]))
