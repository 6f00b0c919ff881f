"""Merging by a formula: tensor by tensor, stored as what is to be computed.

A merge of whole models then costs kilobytes. Planning streams blocks of every input, so memory does not grow
with the models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from deltavcs.checkpoint.elements import read_elements
from deltavcs.checkpoint.view import Content, view_of
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.alignment import (
    Aligned,
    Merging,
    align,
    lead_contents,
    merged_view,
    padded_rows,
    untouched,
)
from deltavcs.merging.arithmetic import plan_average, plan_task_arithmetic, plan_weighted
from deltavcs.merging.blocks import Block, TensorSource
from deltavcs.merging.counterparts import MergeInput
from deltavcs.merging.methods import method_named, settings_for
from deltavcs.merging.padding import PaddedSource, padded_content
from deltavcs.merging.settings import DerivedPlan, Options, Settings
from deltavcs.merging.slerp import plan_slerp
from deltavcs.merging.sparse import plan_dare, plan_dare_ties, plan_ties
from deltavcs.merging.spool import Spool
from deltavcs.objects.derivation import Derivation, Operand
from deltavcs.objects.model import TensorEntry
from deltavcs.objects.store import ObjectStore
from deltavcs.operators.parse import parse
from deltavcs.pool import Pool
from deltavcs.resources import Resources
from deltavcs.tensors.cast import layout_of
from deltavcs.tensors.dtypes import n_elements

Planner: TypeAlias = Callable[[TensorSource, Settings], DerivedPlan]

PLANNERS: dict[str, Planner] = {
    "average": plan_average,
    "weighted": plan_weighted,
    "task_arithmetic": plan_task_arithmetic,
    "ties": plan_ties,
    "dare": plan_dare,
    "dare_ties": plan_dare_ties,
    "slerp": plan_slerp,
}
"""By the name of a method: from the tensor of every input and the checked options to a formula."""


def plan_tensor(method: str, source: TensorSource, options: Options) -> DerivedPlan:
    """Plan the merge of one tensor: take the statistics it needs and return its formula.

    Args:
        method: a key of `PLANNERS`.
        source: the tensor of every input, the base first where the method has one.
        options: by parameter name; see `deltavcs.merging.methods.MERGE_METHODS`.

    Returns:
        The operator and its parameters; `deltavcs.operators.parse.parse` takes them.

    Raises:
        InvalidInputError: `bad-argument` for an unknown method, one without a formula, or options that do not
            fit, `unsupported-dtype` if tensors of this dtype can only be copied, `bad-checkpoint` if the
            method cannot handle values that are not finite and the tensor holds some.
    """
    chosen = method_named(method)
    planner = PLANNERS.get(chosen.name)
    if planner is None:
        raise InvalidInputError(
            f"{chosen.name} is computed from statistics, it has no formula", kind=ErrorKind.BAD_ARGUMENT
        )
    layout_of(source.dtype)
    settings = settings_for(chosen, options, source.n_inputs - int(chosen.needs_base))
    plan = planner(source, settings)
    parse(plan.op, plan.params, source.n_inputs)
    return plan


@dataclass(frozen=True, slots=True)
class StoredSource:
    """A `deltavcs.merging.blocks.TensorSource` over stored tensors, read block by block."""

    objects: ObjectStore
    name: str
    entries: tuple[TensorEntry, ...]
    dtype: str

    @property
    def n(self) -> int:
        """Number of elements."""
        return n_elements(self.entries[0].shape)

    @property
    def n_inputs(self) -> int:
        """Number of inputs."""
        return len(self.entries)

    def blocks(self, block_elements: int) -> Iterator[Block]:
        """See `TensorSource.blocks`."""
        for start in range(0, self.n, block_elements):
            count = min(block_elements, self.n - start)
            yield start, [read_elements(self.objects, e, start, count) for e in self.entries]


def merge_derived(
    objects: ObjectStore,
    method: str,
    models: Sequence[MergeInput],
    base: MergeInput | None,
    options: Options,
    *,
    spool: Spool,
    resources: Resources,
) -> Merging:
    """Merge by a method that has a formula, element by element; for adapters factor by factor.

    LoRA adapters averaged so are what Mashup Learning (§3) merges: A and B each by itself.

    Args:
        models: their first gives files, names and dtypes.
        base: only for methods that need one.
        options: as `plan_tensor` takes them.
        spool: for tensors of vocabularies that differ in rows (`deltavcs.merging.padding`).

    Raises:
        InvalidInputError: `incompatible` naming tensors; `bad-argument` for options that do not fit;
            `bad-checkpoint` for values that the method cannot handle.
    """
    aligned = align(objects, models, base)
    tensors = lead_contents(aligned, view_of(models[0].manifest))
    same = [k for k, row in aligned.entries.items() if untouched(row) and k not in aligned.grown]
    left = {k: row for k, row in aligned.entries.items() if k not in {*same, *aligned.grown}}
    for key in aligned.grown:
        source = _padded_source(objects, method, key, aligned, tensors[key].dtype, options)
        tensors[key] = padded_content(source, plan_tensor(method, source, options), spool)
    for key, content in _plan_all(objects, method, left, dict(tensors), options, resources):
        tensors[key] = content
    return Merging(
        view=merged_view(objects, aligned, models[0].manifest, tensors),
        merged=(*left, *aligned.grown),
        untouched=tuple(same),
        copied=aligned.copied,
        converted=aligned.converted,
        lost={},
        apart=aligned.apart,
        adjusted=aligned.adjusted,
        padded=padded_rows(aligned),
    )


def _padded_source(
    objects: ObjectStore, method: str, key: str, aligned: Aligned, dtype: str, options: Options
) -> PaddedSource:
    entries, chosen = aligned.entries[key], method_named(method)
    n_models = len(entries) - int(chosen.needs_base)
    weights = settings_for(chosen, options, n_models).weights or (1.0,) * n_models
    return PaddedSource(objects, key, entries, dtype, aligned.grown[key], weights, has_base=chosen.needs_base)


def _plan_all(
    objects: ObjectStore,
    method: str,
    left: Mapping[str, tuple[TensorEntry, ...]],
    lead: Mapping[str, Content],
    options: Options,
    resources: Resources,
) -> Iterator[tuple[str, Content]]:
    total = sum(lead[key].size for key in left)
    done = 0

    def plan_one(key: str) -> tuple[str, Content]:
        entries, old = left[key], lead[key]
        return key, derived_content(objects, method, key, entries, old, options)

    objects.blobs.prepare(resources)
    with Pool(resources) as pool:
        for key, content in pool.map(plan_one, left):
            yield key, content
            done += content.size
            resources.progress("merging", done, total)


def derived_content(
    objects: ObjectStore,
    method: str,
    key: str,
    entries: tuple[TensorEntry, ...],
    lead: Content,
    options: Options,
) -> Content:
    """One tensor as the formula that a method gives it. Raises as `plan_tensor` does."""
    plan = plan_tensor(method, StoredSource(objects, key, entries, lead.dtype), options)
    operands = tuple(Operand(e.blob, n_elements(e.shape)) for e in entries)
    derivation = Derivation(plan.op, plan.params, operands)
    return replace(lead, blob=None, computed=None, derivation=derivation)
