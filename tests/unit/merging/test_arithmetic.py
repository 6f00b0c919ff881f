"""Averages and task arithmetic against their equations, written whole-tensor in plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from array_merges import ArraySource, merge, merge_bytes, models

from deltavcs.errors import InvalidInputError
from deltavcs.merging.arithmetic import weights_from_scores

TIGHT = {"rtol": 1e-13, "atol": 1e-15}


def test_average_and_weighted() -> None:
    xs = models(3)
    np.testing.assert_allclose(merge("average", xs), np.mean(xs, axis=0), **TIGHT)
    got = merge("weighted", xs, weights=[0.2, 0.5, 0.9])
    np.testing.assert_allclose(got, np.average(xs, axis=0, weights=[0.2, 0.5, 0.9]), **TIGHT)


def test_task_arithmetic() -> None:
    base, *tuned = models(4)
    got = merge("task_arithmetic", [base, *tuned], weights=[1.0, -0.5, 2.0], scale=0.4)
    task_vectors = np.stack([x - base for x in tuned])
    np.testing.assert_allclose(got, base + 0.4 * np.tensordot([1.0, -0.5, 2.0], task_vectors, 1), **TIGHT)


def test_bfloat16_results_are_rounded_once() -> None:
    xs = [x.ravel() for x in models(3)]
    raw = merge_bytes("task_arithmetic", ArraySource("w", xs, "BF16"), {"scale": 0.3}, 64)
    exact = xs[0] + ((xs[1] - xs[0]) + (xs[2] - xs[0])) * 0.3
    bits = np.frombuffer(raw, "<u2").astype(np.uint32) << np.uint32(16)
    assert np.all(np.abs(bits.view(np.float32) - exact) <= np.abs(exact) * 2.0**-8)


def test_weights_from_scores() -> None:
    assert weights_from_scores([0.2, 0.6], higher_is_better=True) == (0.2, 0.6)
    best, worse = weights_from_scores([2.0, 2.5], higher_is_better=False, temperature=0.5)
    assert best == 1.0
    assert worse == pytest.approx(np.exp(-1.0))
    for bad in ([], [float("nan")], [-1.0], [0.0]):
        with pytest.raises(InvalidInputError):
            weights_from_scores(bad, higher_is_better=True)
    with pytest.raises(InvalidInputError):
        weights_from_scores([1.0], higher_is_better=False, temperature=0.0)
