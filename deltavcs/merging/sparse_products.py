"""TIES and DARE on the products of LoRA adapters: element by element on ΔW, then cut back to a rank.

What comes out of trimming and of random masks has no small rank, so ΔW is formed, one module at a time, and
its best approximation of the rank is kept (Eckart and Young, 1936).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.blocks import BLOCK_ELEMENTS, Block
from deltavcs.merging.formulas import PLANNERS
from deltavcs.merging.products import LoraFactors, LoraMerge
from deltavcs.merging.settings import Settings
from deltavcs.operators.parse import parse
from deltavcs.tensors.cast import Float64Array

SPARSE_METHODS = ("ties", "dare", "dare_ties")
_ITEMSIZE = 8
# Squaring the matrix leaves half of the digits of what is cut off.
_ROUNDING = 1e-7


@dataclass(frozen=True, slots=True)
class ProductSource:
    """Updates of one module as a `deltavcs.merging.blocks.TensorSource`: the base is zero.

    Attributes:
        name: of the module; it keys DARE's masks.
        updates: float64, each of shape (n,), in row-major order; None for an adapter that leaves it alone.
    """

    name: str
    n: int
    updates: Sequence[Float64Array | None]
    dtype: str = "F64"

    @property
    def n_inputs(self) -> int:
        """Number of inputs, the base included."""
        return len(self.updates) + 1

    def blocks(self, block_elements: int) -> Iterator[Block]:
        """See `TensorSource.blocks`."""
        for start in range(0, self.n, block_elements):
            count = min(block_elements, self.n - start)
            nothing = np.zeros(count)
            yield (
                start,
                [nothing, *(nothing if u is None else u[start : start + count] for u in self.updates)],
            )


def merge_sparse_products(
    method: str,
    module: str,
    factors: Sequence[LoraFactors | None],
    settings: Settings,
    *,
    rank: int,
    memory_bytes: int,
) -> LoraMerge:
    """Merge the updates of one module, ΔW_i = scale_i·B_i A_i, as diff vectors from a base of zeros.

    Args:
        method: one of `SPARSE_METHODS`.
        factors: one per adapter; None where it leaves the module alone, which counts as ΔW_i = 0.
        rank: of the result.
        memory_bytes: what all ΔW_i of a module, the result and its decomposition may take.

    Returns:
        Factors of shape (rank, in) and (out, rank), and the share of the result that the rank cuts off.

    Raises:
        InvalidInputError: `incompatible` for shapes, `limit-exceeded` if the matrices are too large.
    """
    out, width = _shape_of(module, factors)
    present = sum(f is not None for f in factors)
    need = _ITEMSIZE * (out * width * (present + 4) + 3 * min(out, width) ** 2)
    if need > memory_bytes:
        raise InvalidInputError(
            f"{method} needs the whole update of {module}, {out} by {width}, from each adapter:"
            f" {need >> 20} MiB of memory, more than the {memory_bytes >> 20} MiB there are",
            kind=ErrorKind.LIMIT_EXCEEDED,
            advice=Advice.GIVE_INITIAL_ADAPTER,
        )
    updates = [None if f is None else ((f.b * f.scale) @ f.a).reshape(-1) for f in factors]
    merged = _merge(method, ProductSource(module, out * width, updates), settings).reshape(out, width)
    return _cut(merged, rank)


def _shape_of(module: str, factors: Sequence[LoraFactors | None]) -> tuple[int, int]:
    shapes = {(f.b.shape[0], f.a.shape[1]) for f in factors if f is not None}
    if len(shapes) != 1 or any(f.a.shape[0] != f.b.shape[1] for f in factors if f is not None):
        raise InvalidInputError(
            f"the factors of {module} have shapes that do not fit together", kind=ErrorKind.INCOMPATIBLE
        )
    return shapes.pop()


def _merge(method: str, source: ProductSource, settings: Settings) -> Float64Array:
    plan = PLANNERS[method](source, settings)
    operation = parse(plan.op, plan.params, source.n_inputs)
    out = np.empty(source.n)
    with np.errstate(all="ignore"):
        for start, arrays in source.blocks(BLOCK_ELEMENTS):
            out[start : start + arrays[0].size] = operation.run(arrays, start)
    return out


def _cut(update: Float64Array, rank: int) -> LoraMerge:
    """The best approximation of a rank, by the eigenvectors of the smaller of ΔWᵀΔW and ΔW ΔWᵀ."""
    if not np.isfinite(update).all():
        raise InvalidInputError(
            "an update holds NaN or Inf, and has no approximation of a smaller rank",
            kind=ErrorKind.BAD_CHECKPOINT,
        )
    tall = update if update.shape[0] >= update.shape[1] else update.T
    kept = min(rank, tall.shape[1])
    _, vectors = np.linalg.eigh(tall.T @ tall)
    basis = vectors[:, ::-1][:, :kept]
    projected = tall @ basis
    root = np.sqrt(np.linalg.norm(projected, axis=0))
    left, right = np.zeros((tall.shape[0], rank)), np.zeros((rank, tall.shape[1]))
    left[:, :kept] = projected / np.where(root > 0.0, root, 1.0)
    right[:kept] = root[:, None] * basis.T
    whole = float(np.linalg.norm(tall))
    lost = float(np.linalg.norm(tall - projected @ basis.T)) / whole if whole > 0.0 else 0.0
    a, b = (right, left) if tall is update else (left.T, right.T)
    return LoraMerge(a, b, lost if lost > _ROUNDING else 0.0)
