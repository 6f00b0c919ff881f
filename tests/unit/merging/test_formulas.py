"""Planning a tensor: what is refused, what is empty, and how much memory it takes."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from array_merges import ArraySource, merge, merged_blocks, models

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.formulas import plan_tensor


def test_plan_refuses_what_it_cannot_do() -> None:
    xs = models(2)
    for method in ("fisher", "regmean", "alchemy"):
        with pytest.raises(InvalidInputError):
            plan_tensor(method, ArraySource("w", xs), {})
    with pytest.raises(InvalidInputError) as caught:
        plan_tensor("average", ArraySource("w", xs, "I32"), {})
    assert caught.value.kind is ErrorKind.UNSUPPORTED_DTYPE
    with pytest.raises(InvalidInputError):
        plan_tensor("weighted", ArraySource("w", xs), {"weights": 0.0})


def test_empty_and_scalar_tensors() -> None:
    for shape in ((0,), ()):
        xs = [np.full(shape, 1.0), np.full(shape, 3.0)]
        for method in ("average", "task_arithmetic", "ties", "dare", "dare_ties", "slerp"):
            assert merge(method, xs).shape == shape
    assert merge("average", xs) == 2.0


def test_merging_does_not_load_torch() -> None:
    modules = "methods formulas products".split()
    code = ";".join(f"import deltavcs.merging.{module}" for module in modules)
    check = f"{code}; import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)


class Generated:
    """A source that makes its blocks as they are asked for."""

    name, dtype, n_inputs = "w", "BF16", 3

    def __init__(self, n: int) -> None:
        self.n = n

    def blocks(self, block_elements: int) -> Iterator[tuple[int, list[np.ndarray]]]:
        for start in range(0, self.n, block_elements):
            rng = np.random.default_rng(start)
            yield start, list(rng.standard_normal((3, min(block_elements, self.n - start))))


@pytest.mark.parametrize("method", ["ties", "dare_ties"])
def test_memory_does_not_grow_with_the_tensor(method: str) -> None:
    def peak(n: int) -> int:
        tracemalloc.start()
        try:
            for _ in merged_blocks(method, Generated(n), {}):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small, large = peak(1 << 20), peak(1 << 22)
    assert large < small + (8 << 20)  # the tensor itself grows by 3 · 24 MiB
    assert large < 80 << 20
