"""TIES and DARE on products, against the same methods on the whole matrices."""

from __future__ import annotations

import numpy as np
import pytest
from array_merges import ArraySource, merge_bytes

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.methods import method_named, settings_for
from deltavcs.merging.products import LoraFactors
from deltavcs.merging.sparse_products import merge_sparse_products

OUT, WIDTH = 9, 6


def factors(rank: int, seed: int) -> LoraFactors:
    rng = np.random.default_rng(seed)
    return LoraFactors(rng.normal(size=(rank, WIDTH)), rng.normal(size=(OUT, rank)), 0.5 * seed)


def merged(method: str, found, options, rank: int, memory: int = 1 << 20):
    settings = settings_for(method_named(method), options, len(found))
    return merge_sparse_products(method, "m", found, settings, rank=rank, memory_bytes=memory)


def dense(method: str, found, options) -> np.ndarray:
    zero = np.zeros((OUT, WIDTH))
    updates = [zero if f is None else f.scale * f.b @ f.a for f in found]
    raw = merge_bytes(method, ArraySource("m", [zero, *updates]), options)
    return np.frombuffer(raw, "<f8").reshape(OUT, WIDTH)


@pytest.mark.parametrize("method", ["ties", "dare", "dare_ties"])
@pytest.mark.parametrize("absent", [False, True])
def test_they_are_the_methods_on_whole_updates(method, absent) -> None:
    found = [factors(2, 1), None if absent else factors(1, 2), factors(3, 3)]
    options = {"density": 0.5, "weights": [1.0, 0.5, 2.0]}
    wanted = dense(method, found, options)
    whole = merged(method, found, options, WIDTH)
    np.testing.assert_allclose(whole.b @ whole.a, wanted, atol=1e-12)
    assert whole.relative_error == 0.0
    cut = merged(method, found, options, 2)
    u, sigma, v = np.linalg.svd(wanted)
    np.testing.assert_allclose(cut.b @ cut.a, (u[:, :2] * sigma[:2]) @ v[:2], atol=1e-9)
    assert cut.relative_error == pytest.approx(np.linalg.norm(sigma[2:]) / np.linalg.norm(sigma))


def test_a_rank_above_the_matrix_is_padded_with_zeros() -> None:
    found = merged("ties", [factors(2, 1)], {"density": 1.0}, 8)
    assert (found.b.shape, found.a.shape) == ((OUT, 8), (8, WIDTH))
    np.testing.assert_allclose(
        found.b @ found.a, dense("ties", [factors(2, 1)], {"density": 1.0}), atol=1e-12
    )


def test_what_does_not_fit_together_or_into_memory_is_refused() -> None:
    narrow = LoraFactors(np.ones((1, WIDTH - 1)), np.ones((OUT, 1)), 1.0)
    with pytest.raises(InvalidInputError, match="the factors of m have shapes"):
        merged("ties", [factors(1, 1), narrow], {}, 2)
    with pytest.raises(InvalidInputError, match="9 by 6") as caught:
        merged("ties", [factors(1, 1)], {}, 2, memory=100)
    assert caught.value.kind is ErrorKind.LIMIT_EXCEEDED
    broken = LoraFactors(np.full((1, WIDTH), np.nan), np.ones((OUT, 1)), 1.0)
    with pytest.raises(InvalidInputError) as caught:
        merged("dare", [broken], {}, 2)
    assert caught.value.kind is ErrorKind.BAD_CHECKPOINT
