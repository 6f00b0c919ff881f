"""Fisher-weighted averaging against its equation."""

from __future__ import annotations

import numpy as np
import pytest

from deltavcs.errors import InvalidInputError
from deltavcs.merging.fisher import fisher_average

TIGHT = {"rtol": 1e-13, "atol": 1e-15}


def test_fisher() -> None:
    rng = np.random.default_rng(3)
    xs, fs = rng.standard_normal((3, 50)), rng.random((3, 50))
    fs[:, 7] = 0.0
    got = fisher_average(list(xs), list(fs), weights=[1.0, 2.0, 0.5], floor=1e-6)
    w = np.array([1.0, 2.0, 0.5])[:, None] * np.maximum(fs, 1e-6)
    np.testing.assert_allclose(got, (w * xs).sum(0) / w.sum(0), **TIGHT)
    equal = fisher_average(list(xs), [np.zeros(50)] * 3)
    np.testing.assert_allclose(equal, xs.mean(0), **TIGHT)


def test_counts_and_shapes_that_do_not_fit() -> None:
    for parameters, fishers in (([], []), ([np.ones(2)], []), ([np.ones(2)], [np.ones(3)])):
        with pytest.raises(InvalidInputError):
            fisher_average(parameters, fishers)
