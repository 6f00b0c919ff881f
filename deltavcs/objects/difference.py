"""Measuring how two tensors differ, span by span."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deltavcs.objects.domain import parse_domain
from deltavcs.objects.model import TensorStats
from deltavcs.tensors.dtypes import dtype_of, n_elements
from deltavcs.tensors.sums import difference


@dataclass(frozen=True, slots=True)
class SpanDifference:
    """The difference over one span: elements that differ in any bit, and the sum of squares over them."""

    changed: int
    squares: float


def measure_span(dtype: str, target: npt.NDArray[np.uint8], base: npt.NDArray[np.uint8]) -> SpanDifference:
    """Compare two byte ranges of the same length, whole elements of `dtype`.

    The sum of squares is 0 where the dtype has no arithmetic.
    """
    return SpanDifference(*difference(dtype, target, base))


def add_up(domain: str, spans: Iterable[SpanDifference]) -> TensorStats:
    """The difference of whole tensors of `domain` from those of their spans; equal tensors have none.

    The norm is kept to 6 significant digits: sums of squares depend on the order of additions.
    """
    tensor = parse_domain(domain)
    assert tensor is not None
    seen = list(spans)
    l2: float | None = None
    if dtype_of(tensor[0]).arithmetic:
        squares = sum(x.squares for x in seen)
        l2 = float(f"{math.sqrt(squares):.6g}") if math.isfinite(squares) else None
    return TensorStats(sum(x.changed for x in seen), n_elements(tensor[1]), l2)
