"""Which tensors of several checkpoints meet in a merge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deltavcs.advice import Advice
from deltavcs.checkpoint.patching import resized_files, untied_files
from deltavcs.checkpoint.view import Content, View, replace_files, view_of, with_tensors
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.counterparts import Adjusted, MergeInput, Row, find_counterparts
from deltavcs.merging.padding import Padding, Shape, grown
from deltavcs.objects.model import Manifest, TensorEntry
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
        grown: key → shape of the result, where vocabularies differ in rows.
        apart: weights outside the checkpoint's own tensors that take no part, by component or file.
        beside, parted: see `deltavcs.merging.counterparts.Counterparts`.
    """

    entries: Mapping[str, tuple[TensorEntry, ...]]
    copied: tuple[str, ...]
    converted: tuple[str, ...]
    apart: tuple[str, ...] = ()
    adjusted: Adjusted = field(default_factory=Adjusted)
    grown: Mapping[str, Shape] = field(default_factory=dict)
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
        padded: tensors whose inputs have other numbers of rows, e.g. `embed (32000 / 32008 → 32008 rows)`.
    """

    view: View
    merged: tuple[str, ...]
    untouched: tuple[str, ...]
    copied: tuple[str, ...]
    converted: tuple[str, ...]
    lost: Mapping[str, float]
    apart: tuple[str, ...] = ()
    adjusted: Adjusted = field(default_factory=Adjusted)
    padded: tuple[str, ...] = ()


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
    padding = Padding(objects, models[0].manifest, list(found.rows))
    larger: dict[str, Shape] = {}
    for key, row in found.complete().items():
        shape = _grown(key, row, len(models), padding)
        larger |= {key: shape} if shape is not None else {}
        problem = _problem(key, row, names) if shape is None else None
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
        larger,
        found.beside,
        found.parted,
    )


def lead_contents(aligned: Aligned, lead: View) -> dict[str, Content]:
    """The tensors of the first model, and in their place those that the result has beside them."""
    added = {key: lead.tensors[old] for key, old in aligned.beside.items()}
    return {**lead.tensors, **added}


def merged_view(
    objects: ObjectStore, aligned: Aligned, first: Manifest, tensors: Mapping[str, Content]
) -> View:
    """The first model with merged tensors, and with a config.json that tells the truth of them."""
    lead = view_of(first)
    view = with_tensors(objects, lead, tensors, beside=aligned.beside)
    if aligned.grown:
        view = replace_files(view, resized_files(objects, view, first))
    return replace_files(view, untied_files(objects, view)) if aligned.parted else view


def _grown(key: str, row: Sequence[TensorEntry], n_models: int, padding: Padding) -> Shape | None:
    """The shape of a merged tensor whose rows differ as vocabularies do; None if it is no such tensor."""
    shapes = [t.shape for t in row]
    axis = padding.axis(key, shapes) if len(set(shapes)) > 1 else None
    if axis is None or padding.guessed is not None or not all(dtype_of(t.dtype).arithmetic for t in row):
        return None
    return grown(shapes[0], axis, max(s[axis] for s in shapes[:n_models]))


def padded_rows(aligned: Aligned) -> tuple[str, ...]:
    """What was padded, for a report."""
    out = []
    for key, shape in aligned.grown.items():
        shapes = [t.shape for t in aligned.entries[key]]
        at = next(i for i in range(len(shape)) if len({s[i] for s in shapes}) > 1)
        out.append(f"{key} ({' / '.join(str(s[at]) for s in shapes)} → {shape[at]} rows)")
    return tuple(out)


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
