"""Which tensors of several checkpoints meet in a merge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deltavcs.advice import Advice
from deltavcs.checkpoint.components import component_of, match_components, weights_apart
from deltavcs.checkpoint.view import View
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import Manifest, TensorEntry
from deltavcs.tensors.dtypes import dtype_of

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
        apart: weights outside the checkpoint's own tensors that take no part, by component or file.
    """

    entries: Mapping[str, tuple[TensorEntry, ...]]
    copied: tuple[str, ...]
    converted: tuple[str, ...]
    apart: tuple[str, ...] = ()


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
        apart: as of `Aligned`.
    """

    view: View
    merged: tuple[str, ...]
    untouched: tuple[str, ...]
    copied: tuple[str, ...]
    converted: tuple[str, ...]
    lost: Mapping[str, float]
    apart: tuple[str, ...] = ()


def align(models: Sequence[MergeInput], base: MergeInput | None) -> Aligned:
    """Match the tensors of all operands by name, component by component.

    A component that one of them lacks stays as the first model has it, and is named.

    Raises:
        InvalidInputError: `incompatible`, naming tensors, if names or shapes differ, or a dtype without
            arithmetic meets one with.
    """
    operands = [*([base] if base else []), *models]
    lead = models[0].manifest
    components = [match_components(lead, m.manifest) for m in operands]
    alone = {name for found in components for name in found.lacking if name}
    tables = []
    for model, parts in zip(operands, components, strict=True):
        back = {theirs: ours for ours, theirs in parts.names.items()}
        keys = (k for k in model.manifest.tensors if component_of(k) not in {*parts.unknown} - {""})
        named = {back.get(k, k): model.manifest.tensors[k] for k in keys}
        tables.append((model.name, {k: t for k, t in named.items() if component_of(k) not in alone}))
    own = {k: t for k, t in lead.tensors.items() if component_of(k) not in alone}
    wrong: list[str] = []
    entries: dict[str, tuple[TensorEntry, ...]] = {}
    copied: list[str] = []
    converted: list[str] = []
    for key, first in own.items():
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
        wrong += [f"{key} is only in {name}" for key in sorted(table.keys() - own.keys())]
    if wrong or not entries:
        raise _misfit(wrong)
    apart = weights_apart([m.manifest for m in models], components)
    return Aligned(entries, tuple(copied), tuple(converted), apart)


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
        advice=Advice.COMPARE_TENSORS,
    )


def untouched(entries: Sequence[TensorEntry]) -> bool:
    """True if all operands hold the same blob: every method then gives that blob."""
    return len({e.blob for e in entries}) == 1
