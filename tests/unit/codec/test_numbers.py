"""Bit patterns as numbers that keep their order."""

import numpy as np
import pytest

from deltavcs.codec.numbers import LAYOUTS, apply_differences, differences, order_map


@pytest.mark.parametrize("dtype", LAYOUTS)
def test_order_map_keeps_order_and_inverts(dtype: str) -> None:
    layout = LAYOUTS[dtype]
    bits = np.random.default_rng(4).integers(0, 1 << layout.width, 1000, dtype=layout.word)
    assert (order_map(order_map(bits, layout), layout) == bits).all()
    other = bits[::-1].copy()
    assert (apply_differences(differences(bits, other, layout), other, layout) == bits).all()


def test_minus_zero_is_not_zero() -> None:
    layout = LAYOUTS["BF16"]
    assert differences(np.array([0x8000], "<u2"), np.array([0], "<u2"), layout)[0] == 1
