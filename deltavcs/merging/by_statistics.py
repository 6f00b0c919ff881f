"""Merging by statistics of a task: Fisher-weighted averaging and RegMean. Results are stored as bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from deltavcs.advice import Advice
from deltavcs.checkpoint.elements import read_elements
from deltavcs.checkpoint.view import Content, view_of, with_tensors
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.alignment import Merging, align, padded_rows, untouched
from deltavcs.merging.blocks import BLOCK_ELEMENTS
from deltavcs.merging.counterparts import MergeInput
from deltavcs.merging.fisher import fisher_average
from deltavcs.merging.formulas import derived_content
from deltavcs.merging.methods import MethodInfo, settings_for
from deltavcs.merging.regmean import regmean
from deltavcs.merging.settings import Options, Settings
from deltavcs.merging.spool import Spool
from deltavcs.objects.model import TensorEntry
from deltavcs.objects.store import ObjectStore
from deltavcs.resources import Resources
from deltavcs.tensors.cast import from_float64
from deltavcs.tensors.dtypes import n_elements

Floats = npt.NDArray[np.float64]


class Statistics(Protocol):
    """Statistics of every model of a merge, gathered beforehand."""

    def read(self, model: int, key: str, start: int, count: int) -> Floats | None:
        """Elements of the statistic of one tensor, flat, as float64; None if it has none.

        Fisher information has the tensor's own elements; a Gram matrix in × in of them.
        """
        ...


def merge_by_statistics(
    objects: ObjectStore,
    method: MethodInfo,
    models: Sequence[MergeInput],
    options: Options,
    statistics: Statistics,
    *,
    spool: Spool,
    resources: Resources,
) -> Merging:
    """Merge by `fisher` or `regmean`.

    Fisher streams blocks. RegMean holds one layer at a time: two matrices of in × in and two of the
    layer's shape in float64. Tensors without statistics (for RegMean everything but linear layers) are
    averaged.

    Raises:
        InvalidInputError: `incompatible` naming tensors; `bad-argument` for options that do not fit.
    """
    settings = settings_for(method, options, len(models))
    aligned = align(objects, models, None)
    lead = view_of(models[0].manifest)
    tensors = dict(lead.tensors)
    same = [key for key, entries in aligned.entries.items() if untouched(entries)]
    left = {key: entries for key, entries in aligned.entries.items() if key not in set(same)}
    total = sum(lead.tensors[key].size for key in left)
    done = 0
    for key, entries in left.items():
        old = lead.tensors[key]
        content = MERGERS[method.name](objects, key, entries, old, settings, statistics, spool)
        tensors[key] = content or derived_content(objects, "average", key, entries, old, {})
        done += old.size
        resources.progress("merging", done, total)
    view = with_tensors(objects, lead, tensors)
    return Merging(
        view, tuple(left), tuple(same), aligned.copied, aligned.converted, {}, aligned.apart, aligned.adjusted
    )


def check_alike(objects: ObjectStore, method: MethodInfo, models: Sequence[MergeInput]) -> None:
    """Refuse models that differ in names, ties or rows, before statistics are gathered.

    Those are gathered by name, and of what is stored: a tied head has none of its own.

    Raises:
        InvalidInputError: `incompatible`, naming a tensor.
    """
    aligned = align(objects, models, None)
    adjusted = aligned.adjusted
    odd = [*adjusted.renamed, *adjusted.filled, *adjusted.untied, *padded_rows(aligned)]
    if odd:
        raise InvalidInputError(
            f"{method.name} needs models that store the same tensors under the same names and of the same"
            f" shapes: {odd[0]}",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.SAVE_ALIKE,
        )


def _fisher(
    objects: ObjectStore,
    key: str,
    entries: Sequence[TensorEntry],
    old: Content,
    settings: Settings,
    statistics: Statistics,
    spool: Spool,
) -> Content | None:
    if statistics.read(0, key, 0, 0) is None:
        return None

    def blocks() -> Iterator[memoryview]:
        total = n_elements(old.shape)
        for start in range(0, total, BLOCK_ELEMENTS):
            count = min(BLOCK_ELEMENTS, total - start)
            parameters = [read_elements(objects, e, start, count) for e in entries]
            fishers = [_have(statistics.read(i, key, start, count), key) for i in range(len(entries))]
            values = fisher_average(parameters, fishers, weights=settings.weights, floor=settings.floor)
            yield from_float64(values, old.dtype).data

    return spool.add(old.dtype, old.shape, blocks())


def _regmean(
    objects: ObjectStore,
    key: str,
    entries: Sequence[TensorEntry],
    old: Content,
    settings: Settings,
    statistics: Statistics,
    spool: Spool,
) -> Content | None:
    if len(old.shape) != 2 or statistics.read(0, key, 0, 0) is None:
        return None
    width = old.shape[1]

    def layers() -> Iterator[tuple[Floats, Floats]]:
        for i, entry in enumerate(entries):
            weight = read_elements(objects, entry, 0, n_elements(old.shape)).reshape(old.shape)
            gram = _have(statistics.read(i, key, 0, width * width), key).reshape(width, width)
            yield weight, gram

    values = regmean(layers(), alpha=settings.alpha, ridge=settings.ridge)
    return spool.add(old.dtype, old.shape, [from_float64(values.reshape(-1), old.dtype).data])


def _have(values: Floats | None, key: str) -> Floats:
    if values is None:
        raise InvalidInputError(f"{key} has statistics of some models only", kind=ErrorKind.INCOMPATIBLE)
    return values


TensorMerger: TypeAlias = Callable[
    [ObjectStore, str, Sequence[TensorEntry], Content, Settings, Statistics, Spool], Content | None
]

MERGERS: dict[str, TensorMerger] = {"fisher": _fisher, "regmean": _regmean}
"""By the name of a method: one merged tensor, spooled; None if it has no statistics."""
