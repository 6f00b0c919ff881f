"""Products of LoRA adapters against the product itself and its singular value decomposition."""

from __future__ import annotations

import numpy as np
import pytest

from deltavcs.errors import InvalidInputError
from deltavcs.merging.products import LoraFactors, merge_lora_exact


def lora(seed: int, rank: int, scale: float) -> LoraFactors:
    rng = np.random.default_rng(seed)
    return LoraFactors(rng.standard_normal((rank, 20)), rng.standard_normal((15, rank)), scale)


def test_lora_product() -> None:
    adapters, weights = [lora(0, 3, 2.0), lora(1, 4, 0.5)], [0.5, 0.25]
    product = sum(w * f.scale * f.b @ f.a for f, w in zip(adapters, weights, strict=True))
    for rank in (None, 7, 9):
        merged = merge_lora_exact(adapters, weights, rank)
        assert merged.relative_error == 0.0
        assert merged.a.shape == (rank or 7, 20)
        assert merged.b.shape == (15, rank or 7)
        np.testing.assert_allclose(merged.b @ merged.a, product, rtol=1e-12, atol=1e-13)
    u, s, vt = np.linalg.svd(product)
    for rank in (1, 3, 6):
        merged = merge_lora_exact(adapters, weights, rank)
        best = (u[:, :rank] * s[:rank]) @ vt[:rank]
        np.testing.assert_allclose(merged.b @ merged.a, best, rtol=1e-9, atol=1e-11)
        error = np.linalg.norm(product - best) / np.linalg.norm(product)
        assert merged.relative_error == pytest.approx(error, rel=1e-9)


def test_lora_cut_that_loses_nothing() -> None:
    one = lora(2, 4, 1.0)
    merged = merge_lora_exact([one, one], [0.5, 0.5], 4)
    assert merged.relative_error < 1e-14
    np.testing.assert_allclose(merged.b @ merged.a, one.b @ one.a, rtol=1e-11, atol=1e-12)
    zero = merge_lora_exact([one, one], [1.0, -1.0], 2)
    assert zero.relative_error >= 0.0
    np.testing.assert_allclose(zero.b @ zero.a, 0.0, atol=1e-12)


def test_lora_bad_input() -> None:
    good = lora(0, 3, 1.0)
    bad = LoraFactors(good.a[:, :5], good.b, 1.0)
    for factors, weights, rank in (
        ([], [], None),
        ([good], [1.0, 2.0], None),
        ([good], [float("nan")], None),
        ([good], [1.0], 0),
        ([good, bad], [1.0, 1.0], None),
    ):
        with pytest.raises(InvalidInputError):
            merge_lora_exact(factors, weights, rank)
