"""SLERP against its equation."""

from __future__ import annotations

import numpy as np
import pytest
from array_merges import merge

from deltavcs.errors import ErrorKind, InvalidInputError

TIGHT = {"rtol": 1e-13, "atol": 1e-15}


@pytest.mark.parametrize("t", [0.0, 0.3, 0.5, 1.0])
def test_slerp(t: float) -> None:
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((2, 40, 30))
    omega = np.arccos(np.vdot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))
    expected = (np.sin((1 - t) * omega) * a + np.sin(t * omega) * b) / np.sin(omega)
    np.testing.assert_allclose(merge("slerp", [a, b], t=t), expected, rtol=1e-11, atol=1e-13)


def test_slerp_of_collinear_and_zero_vectors_is_straight() -> None:
    a = np.arange(1.0, 9.0)
    np.testing.assert_allclose(merge("slerp", [a, 3 * a], t=0.25), 1.5 * a, **TIGHT)
    np.testing.assert_allclose(merge("slerp", [a, 0 * a], t=0.25), 0.75 * a, **TIGHT)
    with pytest.raises(InvalidInputError) as caught:
        merge("slerp", [a, a * np.nan])
    assert caught.value.kind is ErrorKind.BAD_CHECKPOINT
