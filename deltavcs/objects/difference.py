"""Measuring how two tensors differ, span by span."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deltavcs.objects.incoming import Difference
from deltavcs.tensors.dtypes import dtype_of
from deltavcs.tensors.sums import difference


@dataclass(frozen=True, slots=True)
class Partial:
    """The difference over one span: elements that differ, and the sum of squares."""

    changed: int
    squares: float


def measure(dtype: str, target: npt.NDArray[np.uint8], base: npt.NDArray[np.uint8]) -> Partial:
    """Compare two byte ranges of the same length, whole elements of `dtype`.

    The sum of squares is over the elements that differ in any bit, and 0 where the dtype has no arithmetic.
    """
    return Partial(*difference(dtype, target, base))


def total(dtype: str, n_elements: int, parts: Iterable[Partial]) -> Difference:
    """The difference of whole tensors from those of their spans.

    The norm is kept to 6 significant digits: sums of squares depend on the order of additions.
    """
    seen = list(parts)
    l2: float | None = None
    if dtype_of(dtype).arithmetic:
        squares = sum(x.squares for x in seen)
        l2 = float(f"{math.sqrt(squares):.6g}") if math.isfinite(squares) else None
    return Difference(sum(x.changed for x in seen), n_elements, l2)
