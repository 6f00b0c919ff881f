"""Tensors whose rows differ because vocabularies do, and what takes the place of rows that a model lacks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from deltavcs.checkpoint.anatomy import config_of
from deltavcs.checkpoint.components import component_of
from deltavcs.checkpoint.elements import read_elements
from deltavcs.checkpoint.view import Content
from deltavcs.checkpoint.vocabulary_tensors import VocabularyTensors, vocabulary_tensors
from deltavcs.merging.blocks import BLOCK_ELEMENTS, Block
from deltavcs.merging.settings import DerivedPlan
from deltavcs.merging.spool import Spool
from deltavcs.objects.model import Manifest, TensorEntry
from deltavcs.objects.store import ObjectStore
from deltavcs.operators.parse import parse
from deltavcs.tensors.cast import Float64Array, from_float64
from deltavcs.tensors.dtypes import n_elements

Shape = tuple[int, ...]


class Padding:
    """Which tensors may differ in rows: those of the vocabulary. The model is asked when one does."""

    def __init__(self, objects: ObjectStore, lead: Manifest, names: Sequence[str]) -> None:
        """Nothing is read yet.

        Args:
            lead: the checkpoint whose config.json says what the vocabulary is.
            names: the tensors of the result.
        """
        self._objects, self._lead = objects, lead
        self._names = [name for name in names if not component_of(name)]
        self._found: VocabularyTensors | None = None

    @property
    def guessed(self) -> str | None:
        """Why names alone decided, if they did."""
        return self._found.guessed if self._found is not None else None

    def _vocabulary(self) -> VocabularyTensors:
        if self._found is None:
            self._found = vocabulary_tensors(self._names, config_of(self._objects, self._lead))
        return self._found

    def grows(self, key: str) -> bool:
        """True for a tensor of the vocabulary."""
        return key in self._vocabulary().axes

    def axis(self, key: str, shapes: Sequence[Shape]) -> int | None:
        """The axis along which a tensor grows; None if it must not, or if shapes differ elsewhere too."""
        axis = self._vocabulary().axes.get(key)
        if axis is None or any(len(s) != len(shapes[0]) or len(s) <= axis for s in shapes):
            return None
        others = {(s[:axis], s[axis + 1 :]) for s in shapes}
        # Rows are added at the end of the elements, so nothing may lie before the axis.
        return axis if len(others) == 1 and all(n == 1 for n in shapes[0][:axis]) else None


def grown(shape: Shape, axis: int, rows: int) -> Shape:
    """A shape with another number of rows."""
    return (*shape[:axis], rows, *shape[axis + 1 :])


@dataclass(frozen=True, slots=True)
class PaddedSource:
    """A `deltavcs.merging.blocks.TensorSource` over tensors of one kind and several numbers of rows.

    A row that a base lacks is zeros; one that a model lacks is its base's, so that it changes nothing; and
    without a base it is the weighted mean of the models that have it, so that it does not change their mean.

    Attributes:
        entries: the base first, if there is one.
        shape: of the result.
        weights: of the models; without a base.
    """

    objects: ObjectStore
    name: str
    entries: tuple[TensorEntry, ...]
    dtype: str
    shape: Shape
    weights: tuple[float, ...]
    has_base: bool

    @property
    def n(self) -> int:
        """Number of elements."""
        return n_elements(self.shape)

    @property
    def n_inputs(self) -> int:
        """Number of inputs."""
        return len(self.entries)

    def blocks(self, block_elements: int) -> Iterator[Block]:
        """See `TensorSource.blocks`."""
        for start in range(0, self.n, block_elements):
            count = min(block_elements, self.n - start)
            yield start, self._filled([self._read(e, start, count) for e in self.entries], count)

    def _read(self, entry: TensorEntry, start: int, count: int) -> Float64Array:
        there = max(0, min(count, n_elements(entry.shape) - start))
        return read_elements(self.objects, entry, start, there) if there else np.zeros(0)

    def _filled(self, blocks: list[Float64Array], count: int) -> list[Float64Array]:
        if self.has_base:
            base = np.concatenate([blocks[0], np.zeros(count - blocks[0].size)])
            return [base, *(np.concatenate([b, base[b.size :]]) for b in blocks[1:])]
        total, weight = np.zeros(count), np.zeros(count)
        for block, w in zip(blocks, self.weights, strict=True):
            total[: block.size] += w * block
            weight[: block.size] += w
        mean = np.divide(total, weight, out=np.zeros(count), where=weight > 0)
        return [np.concatenate([b, mean[b.size :]]) for b in blocks]


def padded_content(source: PaddedSource, plan: DerivedPlan, spool: Spool) -> Content:
    """A merged tensor whose inputs have several numbers of rows, computed and stored as bytes.

    Args:
        plan: the formula that a method gives the source.
    """
    operation = parse(plan.op, plan.params, source.n_inputs)

    def rounded() -> Iterator[memoryview]:
        for start, inputs in source.blocks(BLOCK_ELEMENTS):
            with np.errstate(all="ignore"):
                values = operation.run(inputs, start)
            yield from_float64(values, source.dtype).data

    return spool.add(source.dtype, source.shape, rounded())
