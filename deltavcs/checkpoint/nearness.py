"""How near two checkpoints are, from a few ranges of their tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deltavcs.checkpoint.source import SourceCheckpoint
from deltavcs.checkpoint.view import View
from deltavcs.objects.model import Manifest
from deltavcs.objects.store import ObjectStore
from deltavcs.tensors.cast import to_float64
from deltavcs.tensors.dtypes import dtype_of, n_elements

_SAMPLED_TENSORS = 12
_SAMPLE_ELEMENTS = 16 << 10
_SAMPLE_OF_EACH = 2 << 10
_MAX_TENSORS = 2_000


@dataclass(frozen=True, slots=True)
class Readable:
    """A tensor on disk, stored, or computed.

    Attributes:
        read: fills a buffer with its bytes from an offset on.
    """

    dtype: str
    shape: tuple[int, ...]
    read: Callable[[int, memoryview], None]


def of_tensors(source: SourceCheckpoint) -> dict[str, Readable]:
    """The own tensors of what lies on disk."""
    return {
        k: Readable(t.dtype, t.shape, t.data.read_into) for k, t in source.tensors.items() if "::" not in k
    }


def of_entries(objects: ObjectStore, manifest: Manifest) -> dict[str, Readable]:
    """The own tensors of what is stored."""
    blobs = objects.blobs
    return {
        k: Readable(t.dtype, t.shape, lambda at, out, b=t.blob: blobs.read_into(b, at, out))  # type: ignore[misc]
        for k, t in manifest.primary.items()
    }


def of_contents(objects: ObjectStore, view: View) -> dict[str, Readable]:
    """The own tensors of what is stored or computed."""
    blobs = objects.blobs
    return {
        k: Readable(c.dtype, c.shape, lambda at, out, c=c: c.read_into(blobs, at, out))  # type: ignore[misc]
        for k, c in view.primary.items()
    }


def distance(
    ours: Mapping[str, Readable],
    theirs: Mapping[str, Readable],
    names: Mapping[str, str],
    *,
    every: bool = False,
) -> float | None:
    """‖ours − theirs‖ / ‖theirs‖ over what is finite in the middle of some tensors, in float64.

    Args:
        names: our name → their name; of the same shape but for rows.
        every: a little of every tensor, instead of more of the largest ones.

    Returns:
        None if no tensor has arithmetic in both.
    """
    common = [
        (a, b)
        for a, b in names.items()
        if _comparable(ours[a].dtype, theirs[b].dtype)
        and min(n_elements(ours[a].shape), n_elements(theirs[b].shape))
    ]
    if not common:
        return None
    # The largest tensors carry the training; norms and biases hardly tell two models apart.
    common.sort(key=lambda n: (-n_elements(ours[n[0]].shape), n))
    most = _MAX_TENSORS if every else _SAMPLED_TENSORS
    step = max(1, len(common) // most)
    squares = base_squares = 0.0
    for a, b in common[: step * most : step]:
        mine, base = _sample(ours[a], theirs[b], _SAMPLE_OF_EACH if every else _SAMPLE_ELEMENTS)
        finite = np.isfinite(mine) & np.isfinite(base)
        with np.errstate(over="ignore"):
            squares += float(np.sum((mine[finite] - base[finite]) ** 2))
            base_squares += float(np.sum(base[finite] ** 2))
    if not base_squares or not np.isfinite(squares) or not np.isfinite(base_squares):
        return 0.0 if not squares else float("inf")
    return float(np.sqrt(squares / base_squares))


def _comparable(ours: str, theirs: str) -> bool:
    """Values of eight bits have scales beside them, so they compare with none but their like."""
    a, b = dtype_of(ours), dtype_of(theirs)
    return a.arithmetic and b.arithmetic and (ours == theirs or min(a.itemsize, b.itemsize) > 1)


_Values = npt.NDArray[np.float64]


def _sample(a: Readable, b: Readable, most: int) -> tuple[_Values, _Values]:
    """The middle of a tensor, from both."""
    common = min(n_elements(a.shape), n_elements(b.shape))
    count = min(most, common)
    start = (common - count) // 2
    return _read(a, start, count), _read(b, start, count)


def _read(tensor: Readable, start: int, count: int) -> _Values:
    itemsize = dtype_of(tensor.dtype).itemsize
    out = np.empty(count * itemsize, np.uint8)
    tensor.read(start * itemsize, out.data)
    return to_float64(out, tensor.dtype)
