"""How an adapter lies between its base and another: norms and cosines of its products, by blocks of rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from deltavcs.adapters.carried_adapter import CarriedAdapter
from deltavcs.adapters.factors import Factors
from deltavcs.adapters.folded_weight import FoldedWeight
from deltavcs.adapters.updates import Update, updates_of
from deltavcs.checkpoint.elements import read_elements
from deltavcs.checkpoint.geometry import Geometry, geometry, group_of
from deltavcs.checkpoint.quantised import quantisations_of
from deltavcs.objects.model import TensorEntry
from deltavcs.objects.store import ObjectStore
from deltavcs.pool import Pool
from deltavcs.resources import Resources
from deltavcs.tensors.dtypes import dtype_of, n_elements

_SPAN_ELEMENTS = 1 << 18
Triple = tuple[TensorEntry, TensorEntry, TensorEntry]


def carried_geometry(
    objects: ObjectStore, carried: CarriedAdapter, resources: Resources
) -> dict[str, Geometry]:
    """Measure the two bases and what the adapter adds, by group and in all (key `all`).

    ‖Δ‖² and ⟨Δ, m_t − m_s⟩ are sums over the modules: ‖s·B·A‖ from the factors alone, and
    ⟨s·B·A, W_t − W_s⟩ from (W_t − W_s)·Aᵀ, which has as many columns as the rank. Weights that are kept
    whole count with their change, W_saved − W_s.
    """
    triples = {} if carried.described else _triples(objects, carried)
    found = geometry(objects, triples, resources)
    extra: dict[str, list[float]] = {}
    parts = [*_products(objects, carried, triples, resources), *_rows(objects, carried)]
    for key, delta, dot in parts:
        for group in (group_of(key), "all"):
            sums = extra.setdefault(group, [0.0, 0.0])
            sums[0] += delta
            sums[1] += dot
    for group, (delta, dot) in extra.items():
        old = found.get(group, Geometry(0.0, 0.0, 0.0, 0.0))
        together = math.sqrt(max(0.0, old.delta**2 + delta))
        found[group] = Geometry(old.base, old.drift, together, old.dot + dot)
    return found


def _triples(objects: ObjectStore, carried: CarriedAdapter) -> dict[str, Triple]:
    """Per tensor of the target those of m_t, m'_s and m_s, where both bases have it; rows may differ."""
    source, target = carried.source.entries, carried.target.entries
    quantised = [
        q for base in (carried.source, carried.target) for q in quantisations_of(objects, base.manifest)
    ]
    packed = {k for q in quantised for k in q.tensors}
    saved = {w.source.blob: w.saved for w in carried.whole.values() if w.source is not None}
    out: dict[str, Triple] = {}
    for key, entry in target.items():
        other_key = _source_key(carried, key)
        other = source.get(other_key)
        if packed & {key, other_key}:
            continue
        if other is not None and other.shape[1:] == entry.shape[1:] and _computes(entry, other):
            tuned = saved.get(other.blob, other)
            out[key] = (entry, tuned if _computes(tuned) else other, other)
    return out


def _source_key(carried: CarriedAdapter, key: str) -> str:
    if key in carried.source.entries or carried.target.names is None or carried.source.names is None:
        return key
    memory = carried.target.names.in_memory().get(key)
    source = carried.source.names.sources.get(memory or "")
    return source.names[0] if source is not None and len(source.names) == 1 else key


def _computes(*entries: TensorEntry) -> bool:
    return all(dtype_of(e.dtype).arithmetic for e in entries)


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Some rows of an update, and where they lie in a tensor."""

    triple: Triple
    update: Update
    first: int
    start: int
    count: int


def _products(
    objects: ObjectStore, carried: CarriedAdapter, triples: Mapping[str, Triple], resources: Resources
) -> Iterator[tuple[str, float, float]]:
    """Per tensor: what its updates add to ‖Δ‖² and to ⟨Δ, m_t − m_s⟩."""
    with Pool(resources) as pool:
        for done, (key, factors) in enumerate(carried.match.factors.items(), start=1):
            if factors[0].magnitude is not None and key in triples:
                yield (key, *_scaled(objects, triples[key], factors))
                continue
            for first, update in updates_of(objects, factors):
                delta, dot = update.norm() ** 2, 0.0
                if key in triples:
                    spans = _spans(triples[key], first, update)
                    for drift, change in pool.map(lambda span: _measure(objects, span), spans):
                        dot += drift
                        delta += 2.0 * change
                yield key, delta, dot
            resources.progress("comparing adapters", done, len(carried.match.factors))


def _rows(objects: ObjectStore, carried: CarriedAdapter) -> Iterator[tuple[str, float, float]]:
    """The same of embeddings of which some rows were trained."""
    for key, (replaced, source, target) in zip(carried.match.tokens, carried.tokens.values(), strict=True):
        columns = prod(replaced.rows.shape[1:])
        for i, token in enumerate(replaced.tokens):
            rows = read_elements(objects, replaced.rows, i * columns, columns)
            old, new = (read_elements(objects, e, token * columns, columns) for e in (source, target))
            yield key, float((rows - old) @ (rows - old)), float((rows - old) @ (new - old))


def _scaled(objects: ObjectStore, triple: Triple, factors: Sequence[Factors]) -> tuple[float, float]:
    """‖Δ‖² and ⟨Δ, W_t − W_s⟩ of DoRA, which changes the whole weight."""
    target, _, source = triple
    tuned, total = FoldedWeight(objects, source, factors), n_elements(source.shape)
    delta = dot = 0.0
    for at in range(0, total, _SPAN_ELEMENTS):
        values = np.empty(min(_SPAN_ELEMENTS, total - at))
        tuned.read_into(at * values.itemsize, memoryview(values.data).cast("B"), "F64")
        old, new = (read_elements(objects, e, at, values.size) for e in (source, target))
        values -= old
        delta += float(values @ values)
        dot += float(values @ (new - old))
    return delta, dot


def _spans(triple: Triple, first: int, update: Update) -> Iterator[_Stretch]:
    rows, columns = update.shape
    step = max(1, _SPAN_ELEMENTS // max(1, columns))
    for start in range(0, rows, step):
        yield _Stretch(triple, update, first, start, min(step, rows - start))


def _measure(objects: ObjectStore, span: _Stretch) -> tuple[float, float]:
    """⟨update, W_t − W_s⟩ and ⟨update, W_saved − W_s⟩ over some rows."""
    columns = span.update.shape[1]
    at, count = (span.first + span.start) * columns, span.count * columns
    target, tuned, source = span.triple
    old = read_elements(objects, source, at, count).reshape(-1, columns)
    new = read_elements(objects, target, at, count).reshape(-1, columns)
    drift = span.update.dot_rows(span.start, new - old)
    if tuned.blob == source.blob:
        return drift, 0.0
    kept = read_elements(objects, tuned, at, count).reshape(-1, columns)
    return drift, span.update.dot_rows(span.start, kept - old)
