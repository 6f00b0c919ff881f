"""Streams of blocks: exact order statistics, and sources that break their contract."""

from __future__ import annotations

import numpy as np
import pytest
from array_merges import ArraySource, merge_bytes, models

from deltavcs.errors import InternalError
from deltavcs.merging import blocks as sources
from deltavcs.merging.blocks import kth_largest_magnitudes


@pytest.mark.parametrize("gather", [0, 5, 1 << 20])
def test_kth_largest_is_exact(gather: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "GATHER_ELEMENTS", gather)
    rng = np.random.default_rng(1)
    columns = [
        rng.standard_normal(2000),
        rng.standard_normal(2000) * 10.0 ** rng.integers(-300, 300, 2000),
        rng.integers(-3, 4, 2000).astype(np.float64),  # heavy ties
        1.0 + rng.integers(0, 50, 2000) * 2.0**-52,  # differ in the last bits only
        np.where(rng.random(2000) < 0.3, 5e-324, -0.0),
    ]

    def blocks() -> object:
        return ([c[i : i + 300] for c in columns] for i in range(0, 2000, 300))

    for k in (1, 2, 400, 1999, 2000):
        expected = [float(np.sort(np.abs(c))[::-1][k - 1]) for c in columns]
        assert kth_largest_magnitudes(blocks, [k] * 5) == expected  # type: ignore[arg-type]


def test_not_finite_magnitudes_rank_last() -> None:
    column = np.array([np.nan, np.inf, 1.0, -3.0, 2.0])
    got = kth_largest_magnitudes(lambda: iter([[column]]), [2])
    assert got == [2.0]


def test_a_source_that_breaks_its_contract_is_a_bug() -> None:
    class Short(ArraySource):
        def blocks(self, block_elements: int):  # type: ignore[no-untyped-def]
            yield 0, [array.reshape(-1)[:3] for array in self.arrays]

    with pytest.raises(InternalError):
        merge_bytes("average", Short("w", models(2)), {})
