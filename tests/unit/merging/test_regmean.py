"""RegMean against its closed form and its objective."""

from __future__ import annotations

import numpy as np
import pytest

from deltavcs.errors import InvalidInputError
from deltavcs.merging.regmean import regmean


def gram_layers(seed: int = 4) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    weights = list(rng.standard_normal((3, 6, 8)))
    inputs = rng.standard_normal((3, 40, 8))
    return weights, [x.T @ x for x in inputs]


@pytest.mark.parametrize("alpha", [0.0, 0.9, 1.0])
def test_regmean_is_the_closed_form(alpha: float) -> None:
    weights, grams = gram_layers()
    scaled = [alpha * g + (1 - alpha) * np.diag(np.diag(g)) for g in grams]
    # The paper's W is (in, out): ours transposed.
    expected = np.linalg.inv(sum(scaled)) @ sum(g @ w.T for g, w in zip(scaled, weights, strict=True))
    for ridge, rtol in ((0.0, 1e-10), (1e-9, 1e-6)):
        got = regmean(zip(weights, grams, strict=True), alpha=alpha, ridge=ridge)
        np.testing.assert_allclose(got, expected.T, rtol=rtol, atol=rtol)


def test_regmean_minimises_its_objective() -> None:
    rng = np.random.default_rng(5)
    weights, inputs = rng.standard_normal((2, 3, 5)), rng.standard_normal((2, 30, 5))
    merged = regmean([(w, x.T @ x) for w, x in zip(weights, inputs, strict=True)], alpha=1.0, ridge=0.0)

    def loss(candidate: np.ndarray) -> float:
        return sum(float(((x @ (candidate - w).T) ** 2).sum()) for w, x in zip(weights, inputs, strict=True))

    for _ in range(20):
        assert loss(merged) <= loss(merged + 1e-4 * rng.standard_normal(merged.shape))


def test_regmean_averages_features_that_never_fire() -> None:
    weights, grams = gram_layers()
    for gram in grams:
        gram[2, :] = gram[:, 2] = 0.0
    with pytest.raises(InvalidInputError, match="singular"):
        regmean(zip(weights, grams, strict=True), ridge=0.0)
    merged = regmean(zip(weights, grams, strict=True))
    np.testing.assert_allclose(merged[:, 2], np.mean(weights, axis=0)[:, 2], rtol=1e-9)
    silent = regmean([(w, np.zeros((8, 8))) for w in weights])
    np.testing.assert_allclose(silent, np.mean(weights, axis=0), rtol=1e-12)


def test_regmean_bad_input() -> None:
    good = (np.ones((3, 4)), np.eye(4))
    for layers in ([], [good, (np.ones((3, 5)), np.eye(5))], [(np.ones((3, 4)), np.eye(3))]):
        with pytest.raises(InvalidInputError):
            regmean(layers)
    for options in ({"alpha": 1.1}, {"ridge": -1.0}):
        with pytest.raises(InvalidInputError):
            regmean([good], **options)
