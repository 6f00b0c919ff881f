"""Which tensors of several checkpoints meet in a merge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deltavcs.advice import Advice
from deltavcs.checkpoint.patching import untied_files
from deltavcs.checkpoint.view import Content, View, replace_files, with_tensors
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.counterparts import Adjusted, MergeInput, Row, find_counterparts
from deltavcs.objects.model import TensorEntry
from deltavcs.objects.store import ObjectStore
from deltavcs.tensors.dtypes import dtype_of

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Aligned:
    """Tensors that meet, by key of the first model.

    Attributes:
        entries: per key one tensor per operand, the base first if there is one.
        copied: no arithmetic (integers, booleans); taken from the first model.
        converted: of several dtypes; the result has the first model's.
        adjusted: what it took to make their names meet.
        apart: weights outside the checkpoint's own tensors that take no part, by component or file.
        beside, parted: see `deltavcs.merging.counterparts.Counterparts`.
    """

    entries: Mapping[str, tuple[TensorEntry, ...]]
    copied: tuple[str, ...]
    converted: tuple[str, ...]
    apart: tuple[str, ...] = ()
    adjusted: Adjusted = field(default_factory=Adjusted)
    beside: Mapping[str, str] = field(default_factory=dict)
    parted: tuple[str, ...] = ()


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
        adjusted: what it took to make the names of the inputs meet.
    """

    view: View
    merged: tuple[str, ...]
    untouched: tuple[str, ...]
    copied: tuple[str, ...]
    converted: tuple[str, ...]
    lost: Mapping[str, float]
    apart: tuple[str, ...] = ()
    adjusted: Adjusted = field(default_factory=Adjusted)


def align(objects: ObjectStore, models: Sequence[MergeInput], base: MergeInput | None) -> Aligned:
    """Match the tensors of all operands, component by component.

    A component that one of them lacks stays as the first model has it, and is named.

    Raises:
        InvalidInputError: `incompatible`, naming tensors, if one lacks what another has, if shapes differ,
            or a dtype without arithmetic meets one with.
    """
    given = [*models, *([base] if base else [])]
    found = find_counterparts(objects, given)
    names = [m.name for m in given]
    wrong = [_lacking(key, found.rows[key], names) for key in found.missing]
    entries: dict[str, tuple[TensorEntry, ...]] = {}
    copied: list[str] = []
    converted: list[str] = []
    for key, row in found.complete().items():
        problem = _problem(key, row, names)
        if problem:
            wrong.append(problem)
        elif not dtype_of(row[0].dtype).arithmetic:
            copied.append(key)
        else:
            entries[key] = (*row[len(models) :], *row[: len(models)])
            converted += [key] if len({e.dtype for e in row}) > 1 else []
    wrong += [f"{key} is only in {_owner(key, given)}" for key in found.extra]
    if wrong or not entries:
        raise _misfit(wrong)
    return Aligned(
        entries,
        tuple(copied),
        tuple(converted),
        found.apart,
        found.adjusted,
        found.beside,
        found.parted,
    )


def lead_contents(aligned: Aligned, lead: View) -> dict[str, Content]:
    """The tensors of the first model, and in their place those that the result has beside them."""
    added = {key: lead.tensors[old] for key, old in aligned.beside.items()}
    return {**lead.tensors, **added}


def merged_view(objects: ObjectStore, aligned: Aligned, lead: View, tensors: Mapping[str, Content]) -> View:
    """The first model with merged tensors, and with a config.json that tells the truth of them."""
    view = with_tensors(objects, lead, tensors, beside=aligned.beside)
    return replace_files(view, untied_files(objects, view, aligned.parted)) if aligned.parted else view


def _lacking(key: str, row: Row, names: Sequence[str]) -> str:
    return f"{key} is not in {', '.join(n for n, t in zip(names, row, strict=True) if t is None)}"


def _owner(key: str, given: Sequence[MergeInput]) -> str:
    return ", ".join(m.name for m in given if key in m.manifest.primary)


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
