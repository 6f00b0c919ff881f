"""How far checkpoints lie apart: norms and cosines, streamed in float64."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deltavcs.brief import brief
from deltavcs.checkpoint.elements import read_raw
from deltavcs.objects.model import TensorEntry
from deltavcs.objects.store import ObjectStore
from deltavcs.pool import Pool
from deltavcs.resources import Resources
from deltavcs.tensors.dtypes import dtype_of, n_elements
from deltavcs.tensors.sums import triple_sums

_SPAN_ELEMENTS = 1 << 18

_GROUPS = (
    ("embedding", re.compile(r"embed|wte|wpe")),
    ("head", re.compile(r"lm_head|(^|\.)score\b|classifier|embed_out")),
    ("norm", re.compile(r"norm|ln_|layernorm", re.IGNORECASE)),
    ("attention", re.compile(r"attn|attention|[qkvo]_proj")),
    ("mlp", re.compile(r"mlp|ffn|feed_forward|fc\d|_proj|experts|intermediate|output\.dense")),
)


def group_of(key: str) -> str:
    """The part of the network that a tensor belongs to, by its name."""
    if re.search(r"lm_head|embed_out", key):
        return "head"
    return next((group for group, pattern in _GROUPS if pattern.search(key)), "other")


@dataclass(frozen=True, slots=True)
class Geometry:
    """Distances between a target base m_t, a source base m_s and Δ = m'_s − m_s, over common rows.

    Attributes:
        base: ‖m_s‖₂.
        drift: ‖m_t − m_s‖₂.
        delta: ‖Δ‖₂.
        dot: ⟨Δ, m_t − m_s⟩.
    """

    base: float
    drift: float
    delta: float
    dot: float

    __repr__ = brief

    @property
    def relative_drift(self) -> float | None:
        """‖m_t − m_s‖ / ‖m_s‖, or None for a zero base."""
        return self.drift / self.base if self.base else None

    @property
    def cosine(self) -> float | None:
        """Cosine between Δ and m_t − m_s, or None if one of them is zero."""
        return self.dot / (self.delta * self.drift) if self.delta and self.drift else None


def geometry(
    objects: ObjectStore, triples: Mapping[str, Sequence[TensorEntry]], resources: Resources
) -> dict[str, Geometry]:
    """Measure target, fine-tune and source tensors, by group and in all (key `all`).

    Args:
        triples: per key the tensors of m_t, m'_s and m_s.
    """
    sums: dict[str, list[npt.NDArray[np.float64]]] = {}
    total = sum(t[0].size for t in triples.values())
    done = 0
    objects.blobs.prepare(resources)
    with Pool(resources) as pool:
        for key, n_bytes, part in pool.map(lambda span: _measure(objects, *span), _spans(triples)):
            sums.setdefault(group_of(key), []).append(part)
            done += n_bytes
            resources.progress("comparing", done, total)
    groups = {name: np.sum(parts, axis=0) for name, parts in sorted(sums.items())}
    groups["all"] = np.sum(list(groups.values()), axis=0) if groups else np.zeros(4)
    return {name: _from_sums(part) for name, part in groups.items()}


def _from_sums(part: npt.NDArray[np.float64]) -> Geometry:
    base, drift, delta, dot = (float(x) for x in part)
    return Geometry(math.sqrt(base), math.sqrt(drift), math.sqrt(delta), dot)


_TripleSpan = tuple[str, Sequence[TensorEntry], int, int]


def _spans(triples: Mapping[str, Sequence[TensorEntry]]) -> Iterator[_TripleSpan]:
    for key, entries in triples.items():
        common = min(n_elements(t.shape) for t in entries)
        for at in range(0, common, _SPAN_ELEMENTS):
            yield key, entries, at, min(_SPAN_ELEMENTS, common - at)


def _measure(
    objects: ObjectStore, key: str, entries: Sequence[TensorEntry], start: int, count: int
) -> tuple[str, int, npt.NDArray[np.float64]]:
    target, tuned, source = (read_raw(objects, e, start, count) for e in entries)
    sums = triple_sums(target, tuned, source)
    part = np.array([sums.base, sums.drift, sums.delta, sums.dot], np.float64)
    return key, count * dtype_of(entries[0].dtype).itemsize, part
