"""Finding the base of a fine-tune from its weights alone.

Candidates must have the same tensors; among those the one wins whose weights are nearest in a few
sampled ranges, if it is near at all: two unrelated trainings of one architecture are not base and
fine-tune.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from deltavcs.checkpoint.mismatch import mismatch
from deltavcs.checkpoint.source import SourceCheckpoint, SourceTensor
from deltavcs.objects.model import Manifest, TensorEntry
from deltavcs.objects.store import ObjectStore
from deltavcs.oid import CommitId
from deltavcs.tensors.cast import to_float64
from deltavcs.tensors.dtypes import dtype_of

# Fine-tunes lie within a few percent of their base; independent weights lie at √2 ≈ 1.4.
NEAR = 0.5
_SAMPLED_TENSORS = 12
_SAMPLE_BYTES = 32 << 10


@dataclass(frozen=True, slots=True)
class PossibleBase:
    """A possible base.

    Attributes:
        distance: ‖sample − base‖ / ‖base‖ over the sampled ranges; None if the tensors do not fit.
        why: what speaks against it; empty if nothing.
    """

    commit: CommitId
    distance: float | None
    why: str


def judge_bases(
    objects: ObjectStore, source: SourceCheckpoint, candidates: Iterable[tuple[CommitId, Manifest]]
) -> list[PossibleBase]:
    """Judge every candidate, the nearest first; those that fit come before those that do not."""
    judged = []
    for commit, manifest in candidates:
        problem = mismatch(source, manifest)
        if problem:
            n = len(problem.missing) + len(problem.extra) + len(problem.shapes)
            judged.append((2, float(n), PossibleBase(commit, None, problem.describe())))
            continue
        distance = _distance(objects, source, manifest)
        if distance is None:
            judged.append((2, 0.0, PossibleBase(commit, None, "no floating-point weights to compare")))
        elif distance > NEAR:
            why = f"its weights are unrelated (relative distance {distance:.2f})"
            judged.append((1, distance, PossibleBase(commit, distance, why)))
        else:
            judged.append((0, distance, PossibleBase(commit, distance, "")))
    return [c for _, _, c in sorted(judged, key=lambda x: (x[0], x[1]))]


def _distance(objects: ObjectStore, source: SourceCheckpoint, base: Manifest) -> float | None:
    names = [
        k for k, t in source.tensors.items()
        if "::" not in k and k in base.tensors and base.tensors[k].dtype == t.dtype and t.data.size
        and dtype_of(t.dtype).arithmetic
    ]  # fmt: skip
    if not names:
        return None
    # The largest tensors carry the training; norms and biases hardly tell two models apart.
    names.sort(key=lambda k: (-source.tensors[k].data.size, k))
    step = max(1, len(names) // _SAMPLED_TENSORS)
    squares = base_squares = 0.0
    for name in names[: step * _SAMPLED_TENSORS : step]:
        ours, theirs = _sample(objects, source.tensors[name], base.tensors[name])
        with np.errstate(invalid="ignore", over="ignore"):
            squares += float(np.nansum((ours - theirs) ** 2))
            base_squares += float(np.nansum(theirs**2))
    if not base_squares:
        return 0.0 if not squares else float("inf")
    return float(np.sqrt(squares / base_squares))


def _sample(
    objects: ObjectStore, tensor: SourceTensor, base: TensorEntry
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """The middle of a tensor, from both."""
    itemsize = dtype_of(tensor.dtype).itemsize
    size = min(_SAMPLE_BYTES, tensor.data.size, base.size) // itemsize * itemsize
    start = (min(tensor.data.size, base.size) - size) // 2 // itemsize * itemsize
    out = np.empty(size, np.uint8)
    tensor.data.read_into(start, out.data)
    return to_float64(out, tensor.dtype), to_float64(objects.blobs.padded(base.blob, start, size), base.dtype)
