"""Inf and NaN by their bit patterns."""

from __future__ import annotations

import numpy as np
import pytest

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.tensors.cast import LAYOUTS, from_float64, to_float64
from deltavcs.tensors.finite import nonfinite


@pytest.mark.parametrize("dtype", LAYOUTS)
def test_as_the_values_are(dtype):
    values = np.array([0.0, -0.0, 1.5, -400.0, np.inf, -np.inf, np.nan, 2e-6, 448.0, -57344.0])
    raw = from_float64(values, dtype)
    expected = ~np.isfinite(to_float64(raw, dtype))
    np.testing.assert_array_equal(nonfinite(raw, dtype), expected)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F16", "BF16"])
def test_every_pattern(dtype):
    bits = LAYOUTS[dtype].bits
    raw = np.arange(1 << bits, dtype=f"<u{bits // 8}").view(np.uint8)
    np.testing.assert_array_equal(nonfinite(raw, dtype), ~np.isfinite(to_float64(raw, dtype)))


def test_none_where_all_are_finite():
    assert nonfinite(from_float64(np.array([1.0, -2.0, 0.0]), "F16"), "F16") is None
    assert nonfinite(b"", "F32") is None


def test_integers_have_no_such_values():
    with pytest.raises(InvalidInputError) as caught:
        nonfinite(b"\xff", "I8")
    assert caught.value.kind is ErrorKind.UNSUPPORTED_DTYPE
