"""Merges of arrays in memory, by the methods that have a formula."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deltavcs.merging.blocks import BLOCK_ELEMENTS, Block, TensorSource, checked_blocks
from deltavcs.merging.formulas import plan_tensor
from deltavcs.operators.evaluate import evaluate_stored
from deltavcs.operators.parse import parse
from deltavcs.tensors.dtypes import dtype_of


@dataclass(frozen=True, slots=True)
class ArraySource:
    """A `TensorSource` over float64 arrays of one size, read in row-major order."""

    name: str
    arrays: Sequence[np.ndarray]
    dtype: str = "F64"

    @property
    def n(self) -> int:
        return int(self.arrays[0].size)

    @property
    def n_inputs(self) -> int:
        return len(self.arrays)

    def blocks(self, block_elements: int) -> Iterator[Block]:
        flat = [array.reshape(-1) for array in self.arrays]
        for start in range(0, self.n, block_elements):
            yield start, [array[start : start + block_elements] for array in flat]


def merged_blocks(
    method: str, source: TensorSource, options: Mapping[str, object], block: int = BLOCK_ELEMENTS
) -> Iterator[bytes]:
    """The merged tensor in the dtype of the source, block by block, as a repository gives it."""
    plan = plan_tensor(method, source, options)
    operation = parse(plan.op, plan.params, source.n_inputs)
    for start, arrays in checked_blocks(source, block):
        out = bytearray(arrays[0].size * dtype_of(source.dtype).itemsize)
        stored = [("F64", np.ascontiguousarray(array).view(np.uint8)) for array in arrays]
        evaluate_stored(operation, stored, start, source.dtype, memoryview(out))
        yield bytes(out)


def merge_bytes(
    method: str, source: TensorSource, options: Mapping[str, object], block: int = BLOCK_ELEMENTS
) -> bytes:
    """All of it."""
    return b"".join(merged_blocks(method, source, options, block))


def models(count: int, shape: tuple[int, ...] = (37, 29), seed: int = 0) -> list[np.ndarray]:
    """A base and fine-tunes that lie near it."""
    rng = np.random.default_rng(seed)
    base = rng.standard_normal(shape)
    return [base] + [base + 0.05 * rng.standard_normal(shape) for _ in range(count - 1)]


def merge(
    method: str, arrays: Sequence[np.ndarray], name: str = "w", block: int = 100, **options: object
) -> np.ndarray:
    """Merge arrays in float64."""
    raw = merge_bytes(method, ArraySource(name, arrays), options, block)
    return np.frombuffer(raw, dtype="<f8").reshape(arrays[0].shape)
