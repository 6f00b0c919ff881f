"""TIES and DARE against their papers' equations, written whole-tensor in plain numpy, sharing no code."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from array_merges import merge, models

TIGHT = {"rtol": 1e-13, "atol": 1e-15}


def reference_elect_and_average(task_vectors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    weighted = task_vectors * weights[:, None]
    elected = np.sign(weighted.sum(axis=0))
    agree = (np.sign(weighted) == elected) & (weighted != 0)
    mass = (agree * weights[:, None]).sum(axis=0)
    return np.where(mass > 0, (weighted * agree).sum(axis=0) / np.where(mass > 0, mass, 1), 0)


@pytest.mark.parametrize("density", [0.2, 0.5, 1.0, [0.1, 0.9, 0.3]])
def test_ties(density: object) -> None:
    base, *tuned = models(4)
    weights = np.array([1.0, 1.0, 0.5])
    got = merge("ties", [base, *tuned], density=density, weights=list(weights), scale=0.8)
    task_vectors = np.stack([(x - base).ravel() for x in tuned])
    for i, d in enumerate(np.broadcast_to(density, 3)):
        order = np.argsort(-np.abs(task_vectors[i]))
        task_vectors[i, order[max(1, int(d * base.size)) :]] = 0
    expected = base + 0.8 * reference_elect_and_average(task_vectors, weights).reshape(base.shape)
    np.testing.assert_allclose(got, expected, **TIGHT)


def reference_mask(seed: int, name: str, stream: int, density: float, n: int) -> np.ndarray:
    digest = hashlib.sha256(
        b"deltavcs dare v1\0" + seed.to_bytes(8, "little") + stream.to_bytes(4, "little") + name.encode()
    ).digest()
    state, kept = int.from_bytes(digest[:8], "little"), []
    for _ in range(n):
        state = (state + 0x9E3779B97F4A7C15) & (2**64 - 1)
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        kept.append((z ^ (z >> 31)) >> 32 < round(density * 2**32))
    return np.array(kept)


def test_dare_and_dare_ties() -> None:
    base, *tuned = models(3)
    n, densities, weights = base.size, [0.5, 0.25], np.array([1.0, 0.7])
    dropped = np.stack(
        [
            (x - base).ravel() * reference_mask(9, "layer.0", i, d, n) / d
            for i, (x, d) in enumerate(zip(tuned, densities, strict=True))
        ]
    )
    options = {"density": densities, "weights": list(weights), "scale": 0.6, "seed": 9}
    got = merge("dare", [base, *tuned], name="layer.0", **options)
    expected = base + 0.6 * (dropped * weights[:, None]).sum(axis=0).reshape(base.shape)
    np.testing.assert_allclose(got, expected, **TIGHT)
    got = merge("dare_ties", [base, *tuned], name="layer.0", **options)
    expected = base + 0.6 * reference_elect_and_average(dropped, weights).reshape(base.shape)
    np.testing.assert_allclose(got, expected, **TIGHT)


def test_dare_keeps_the_expected_diff_vector() -> None:
    rng = np.random.default_rng(0)
    base = rng.standard_normal(200_000)
    tuned = base + 0.01
    for density in (0.1, 0.5):
        shift = merge("dare", [base, tuned], density=density) - base
        # Mean of a scaled Bernoulli: standard error 0.01·sqrt((1−d)/(d·n)).
        assert abs(shift.mean() - 0.01) < 5 * 0.01 * np.sqrt((1 - density) / (density * base.size))
