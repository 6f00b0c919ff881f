"""Merging checkpoints tensor by tensor: which tensors meet, and what becomes of each.

Methods with a formula (`deltavcs.merging.methods`) become derivations; a merge of whole models then costs
kilobytes. Planning streams blocks of every input, so memory does not grow with the models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from deltavcs.checkpoint.geometry import read_elements
from deltavcs.checkpoint.view import Content, View, view_of, with_tensors
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.blocks import Block
from deltavcs.merging.plan import plan_tensor
from deltavcs.merging.settings import Options
from deltavcs.objects.derivation import Derivation, Operand
from deltavcs.objects.model import Manifest, TensorEntry
from deltavcs.objects.store import ObjectStore
from deltavcs.pool import Pool
from deltavcs.resources import Resources
from deltavcs.tensors.dtypes import dtype_of, n_elements

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class MergeInput:
    """A checkpoint that takes part in a merge, and what to call it in messages."""

    name: str
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Aligned:
    """Tensors that meet, by key of the first model.

    Attributes:
        entries: per key one tensor per operand, the base first if there is one.
        copied: no arithmetic (integers, booleans); taken from the first model.
        converted: of several dtypes; the result has the first model's.
    """

    entries: Mapping[str, tuple[TensorEntry, ...]]
    copied: tuple[str, ...]
    converted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Merging:
    """A merged checkpoint, not stored yet.

    Attributes:
        view: what it is.
        merged: tensors that were combined.
        untouched: tensors that are the same in all operands, kept as they are.
        copied: tensors without arithmetic, from the first model.
        converted: tensors of several dtypes.
        lost: per tensor the share of the update that a truncated rank cut off; empty for most methods.
    """

    view: View
    merged: tuple[str, ...]
    untouched: tuple[str, ...]
    copied: tuple[str, ...]
    converted: tuple[str, ...]
    lost: Mapping[str, float]


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


def align(models: Sequence[MergeInput], base: MergeInput | None) -> Aligned:
    """Match the tensors of all operands by name.

    Raises:
        InvalidInputError: `incompatible`, naming tensors, if names or shapes differ, or a dtype without
            arithmetic meets one with.
    """
    operands = [*([base] if base else []), *models]
    lead = models[0].manifest.primary
    tables = [(m.name, m.manifest.primary) for m in operands]
    wrong: list[str] = []
    entries: dict[str, tuple[TensorEntry, ...]] = {}
    copied: list[str] = []
    converted: list[str] = []
    for key, first in lead.items():
        lacking = [name for name, table in tables if key not in table]
        if lacking:
            wrong.append(f"{key} is not in {', '.join(lacking)}")
            continue
        found = tuple(table[key] for _, table in tables)
        problem = _problem(key, found, [name for name, _ in tables])
        if problem:
            wrong.append(problem)
        elif not dtype_of(first.dtype).arithmetic:
            copied.append(key)
        else:
            entries[key] = found
            converted += [key] if len({e.dtype for e in found}) > 1 else []
    for name, table in tables:
        wrong += [f"{key} is only in {name}" for key in sorted(table.keys() - lead.keys())]
    if wrong or not entries:
        raise _misfit(wrong)
    return Aligned(entries, tuple(copied), tuple(converted))


def _problem(key: str, found: Sequence[TensorEntry], names: Sequence[str]) -> str | None:
    if len({e.shape for e in found}) > 1:
        shapes = ", ".join(f"{list(e.shape)} in {n}" for e, n in zip(found, names, strict=True))
        return f"{key} is {shapes}"
    if len({dtype_of(e.dtype).arithmetic for e in found}) > 1:
        return f"{key} is {', '.join(e.dtype for e in found)}"
    return None


def _misfit(wrong: Sequence[str]) -> InvalidInputError:
    more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    shown = "; ".join(wrong[:_SHOWN]) + more if wrong else "no tensor has the same name"
    return InvalidInputError(
        f"the checkpoints cannot be merged: {shown}",
        kind=ErrorKind.INCOMPATIBLE,
        hint="A merge needs the same tensors with the same shapes; compare with 'dvx diff A B --stat'.",
    )


def untouched(entries: Sequence[TensorEntry]) -> bool:
    """True if all operands hold the same blob: every method then gives that blob."""
    return len({e.blob for e in entries}) == 1


def merge_derived(
    objects: ObjectStore,
    method: str,
    models: Sequence[MergeInput],
    base: MergeInput | None,
    options: Options,
    resources: Resources,
) -> Merging:
    """Merge by a method that has a formula, element by element; for adapters factor by factor.

    LoRA adapters averaged so are what Mashup Learning (§3) merges: A and B each by itself.

    Args:
        models: their first gives files, names and dtypes.
        base: only for methods that need one.
        options: as `deltavcs.merging.plan.plan_tensor`.

    Raises:
        InvalidInputError: `incompatible` naming tensors; `bad-argument` for options that do not fit;
            `bad-checkpoint` for values that the method cannot handle.
    """
    aligned = align(models, base)
    lead = view_of(models[0].manifest)
    tensors = dict(lead.tensors)
    same = [key for key, entries in aligned.entries.items() if untouched(entries)]
    left = {key: entries for key, entries in aligned.entries.items() if key not in set(same)}
    for key, content in _plan_all(objects, method, left, lead, options, resources):
        tensors[key] = content
    view = with_tensors(objects, lead, tensors)
    return Merging(view, tuple(left), tuple(same), aligned.copied, aligned.converted, {})


def _plan_all(
    objects: ObjectStore,
    method: str,
    left: Mapping[str, tuple[TensorEntry, ...]],
    lead: View,
    options: Options,
    resources: Resources,
) -> Iterator[tuple[str, Content]]:
    total = sum(lead.tensors[key].size for key in left)
    done = 0

    def plan_one(key: str) -> tuple[str, Content]:
        entries, old = left[key], lead.tensors[key]
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
