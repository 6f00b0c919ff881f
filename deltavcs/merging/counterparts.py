"""Which tensor of one checkpoint stands for which tensor of another, whatever they are called on disk.

Checkpoints of one model may differ in the names on disk, in whether a tied head is stored, and in buffers
that nobody needs. `find_counterparts` brings all that together: afterwards every tensor of the result has one
of each operand, and what is left over is left over for good.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from deltavcs.advice import Advice
from deltavcs.brief import brief
from deltavcs.checkpoint.anatomy import anatomy_of, config_of
from deltavcs.checkpoint.components import Components, component_of, match_components, weights_apart
from deltavcs.checkpoint.correspondence import correspond
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.placed_checkpoint import PlacedCheckpoint, check_parts
from deltavcs.objects.model import Manifest, TensorEntry
from deltavcs.objects.store import ObjectStore
from deltavcs.skeleton.tying import left_untied
from deltavcs.tensors.dtypes import dtype_of

Row = tuple[TensorEntry | None, ...]


@dataclass(frozen=True, slots=True)
class MergeInput:
    """A checkpoint that takes part in a merge, and what to call it in messages."""

    name: str
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Adjusted:
    """What it took to make the names of several checkpoints meet.

    Attributes:
        renamed: `key ← key of the other`.
        filled: tied tensors that a checkpoint does not store: its embedding was taken for them.
        untied: tensors that the leading checkpoint ties and the result does not, since another one trained
            them.
        ignored: buffers that some have and some lack, and that no model needs; kept from the leading
            checkpoint.
    """

    renamed: tuple[str, ...] = ()
    filled: tuple[str, ...] = ()
    untied: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class Counterparts:
    """Tensors that meet.

    Attributes:
        rows: key of the result → the tensor of every operand, None where it has none. The keys are those of
            the leading checkpoint, which is operand 0, and those of `beside`.
        beside: keys that the leading checkpoint does not store → the key of its own that they are put after.
        parted: names in memory of tensors that the result no longer ties, `beside` or not.
        extra: tensors of others that the leading checkpoint lacks.
        apart: components and files that take no part (`deltavcs.checkpoint.components`).
    """

    rows: Mapping[str, Row]
    adjusted: Adjusted
    beside: Mapping[str, str] = field(default_factory=dict)
    parted: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()

    def complete(self) -> dict[str, tuple[TensorEntry, ...]]:
        """The rows that lack nothing."""
        return {k: tuple(t for t in row if t is not None) for k, row in self.rows.items() if None not in row}

    @property
    def missing(self) -> tuple[str, ...]:
        """Keys that an operand lacks."""
        return tuple(k for k, row in self.rows.items() if None in row)


def find_counterparts(objects: ObjectStore, operands: Sequence[MergeInput]) -> Counterparts:
    """Match the tensors of checkpoints with those of the first.

    Where all have the same names, they are what they are called. Otherwise config.json is asked what the
    model calls its tensors and which of them it ties.

    Raises:
        InvalidInputError: `incompatible` if what is one tensor in one checkpoint is several in another, or if
            two of one checkpoint could be the same of another.
    """
    lead = operands[0].manifest
    components = [match_components(lead, o.manifest) for o in operands]
    tables = [_in_components(o.manifest, found) for o, found in zip(operands, components, strict=True)]
    alone = {name for found in components for name in found.lacking if name}
    rows = {k: tuple(t.get(k) for t in tables) for k in lead.tensors if component_of(k) not in alone}
    left = (sorted(table.keys() - lead.tensors.keys()) for table in tables)
    apart = weights_apart([o.manifest for o in operands], components[1:])
    whole = Counterparts(
        rows, Adjusted(), extra=tuple(dict.fromkeys(k for keys in left for k in keys)), apart=apart
    )
    own = [{k: t for k, t in table.items() if not component_of(k)} for table in tables]
    alike = all(t.keys() == own[0].keys() for t in own) and all(_agree([t[k] for t in own]) for k in own[0])
    if alike and not _stores_something_twice(own[0]):
        return whole
    found = _Meeting(objects, operands, own).counterparts()
    others = {k: row for k, row in rows.items() if component_of(k)}
    extra = (*found.extra, *(k for k in whole.extra if component_of(k)))
    return replace(found, rows={**found.rows, **others}, extra=extra, apart=apart)


def _in_components(manifest: Manifest, found: Components) -> dict[str, TensorEntry]:
    """The tensors of a checkpoint by key, those of other components as the leading checkpoint calls them."""
    back = {theirs: ours for ours, theirs in found.names.items()}
    return {back.get(k, k): t for k, t in manifest.tensors.items() if component_of(k) not in found.unknown}


def _agree(row: Sequence[TensorEntry | None]) -> bool:
    """True if a row lacks nothing and all of it can be added up."""
    there = [t for t in row if t is not None]
    kinds = {(t.shape, dtype_of(t.dtype).arithmetic) for t in there}
    return len(there) == len(row) and len(kinds) == 1


def _stores_something_twice(table: Mapping[str, TensorEntry]) -> bool:
    """True if a matrix is there twice, as a tied head is that was saved beside its embedding."""
    matrices = [t.blob for t in table.values() if len(t.shape) > 1]
    return len(set(matrices)) < len(matrices)


@dataclass(slots=True)
class _Parted:
    """What becomes of tensors that the leading checkpoint ties and another one does not."""

    rows: dict[str, Row] = field(default_factory=dict)
    beside: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    doubles: list[str] = field(default_factory=list)
    """Keys of tied tensors that the leading checkpoint stores all the same."""
    settled: set[str] = field(default_factory=set)

    def add(self, key: str, place: str, row: Row, beside: str) -> None:
        """Let the result store a tensor that the leading checkpoint does not."""
        self.rows[key], self.beside[key], self.places[key] = row, beside, place


class _Meeting:
    """The work of `find_counterparts` where names differ."""

    def __init__(
        self,
        objects: ObjectStore,
        operands: Sequence[MergeInput],
        tables: Sequence[Mapping[str, TensorEntry]],
    ) -> None:
        self._objects, self._lead_manifest = objects, operands[0].manifest
        anatomies = [anatomy_of(objects, o.manifest) for o in operands]
        model = next((a for a in anatomies if a is not None), None)
        self._operands = [
            PlacedCheckpoint(o.name, table, anatomy, model)
            for o, table, anatomy in zip(operands, tables, anatomies, strict=True)
        ]
        self._lead = self._operands[0]
        self._renamed: list[str] = []
        self._check_names()
        self._extras = [self._settle(operand) for operand in self._operands]

    def _check_names(self) -> None:
        """Refuse a leading checkpoint whose names no model can load, if another one has names that can be."""
        lead = self._lead
        other = next((operand for operand in self._operands if not operand.wrapped), None)
        if not lead.wrapped or other is None:
            return
        raise InvalidInputError(
            f"{lead.name} spells its tensors as no model can load them ({next(iter(lead.table), None)}), and"
            f" {other.name} does not: the result would have the names of {lead.name}",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.SAVE_ALIKE,
        )

    def _settle(self, operand: PlacedCheckpoint) -> Sequence[str]:
        """Give every tensor of an operand its place; return the keys that the leading one has nothing for."""
        lead = self._lead
        met = correspond(
            lead.table, operand.table, our_spelling=lead.spelling, their_spelling=operand.spelling
        )
        operand.keys = {lead.place(ours): theirs for ours, theirs in met.names.items()}
        self._renamed += [f"{ours} ← {theirs}" for ours, theirs in met.names.items() if ours != theirs]
        for key in met.only_theirs:
            operand.keys.setdefault(operand.place(key), key)
        check_parts(lead, operand, met.only_ours, met.only_theirs)
        return met.only_theirs

    def counterparts(self) -> Counterparts:
        """What `find_counterparts` returns."""
        lead = self._lead
        rows: dict[str, Row] = {key: self._row(lead.place(key)) for key in lead.table}
        ignored = [k for k, row in rows.items() if self._stands_in_the_way(k, row) and self._ignores(lead, k)]
        parted = self._part(rows)
        rows = {k: row for k, row in rows.items() if k not in set(ignored)} | parted.rows
        extra = []
        for operand, keys in zip(self._operands, self._extras, strict=True):
            left = [k for k in keys if operand.place(k) not in parted.settled]
            ignored += [k for k in left if self._ignores(operand, k)]
            extra += [k for k in left if not self._ignores(operand, k)]
        filled = [text for key in rows for text in self._filled(key, parted)]
        adjusted = Adjusted(
            tuple(dict.fromkeys(self._renamed)),
            tuple(filled),
            (*parted.rows, *parted.doubles),
            tuple(dict.fromkeys(ignored)),
        )
        return Counterparts(rows, adjusted, parted.beside, tuple(parted.names), tuple(dict.fromkeys(extra)))

    def _row(self, place: str) -> Row:
        return tuple(operand.entry(place) for operand in self._operands)

    def _stands_in_the_way(self, key: str, row: Row) -> bool:
        """True for what is not everywhere, and for what the model does not load and that does not agree."""
        known = self._lead.anatomy.skeleton.shapes if self._lead.anatomy is not None else {}
        return None in row or (not _agree(row) and self._lead.place(key) not in known)

    def _ignores(self, operand: PlacedCheckpoint, key: str) -> bool:
        known = [a for a in (operand.anatomy, self._lead.anatomy) if a is not None]
        place = operand.parameter(operand.place(key))
        return any(a.ignores(key, place, operand.table[key]) for a in known)

    def _filled(self, key: str, parted: _Parted) -> Iterator[str]:
        place = parted.places.get(key) or self._lead.place(key)
        for operand in self._operands[1:]:
            found = operand.find(place)
            if place not in operand.keys and found is not None:
                yield f"{key} of {operand.name} ← {found}"

    def _part(self, rows: Mapping[str, Row]) -> _Parted:
        """Part what the leading checkpoint ties wherever another one has two tensors that differ."""
        parted, lead = _Parted(), self._lead
        for group in lead.groups:
            stored = [place for place in group if place in lead.keys]
            source = rows[lead.keys[stored[0]]] if stored else ()
            if not stored or None in source:
                continue
            for place in group:
                self._part_one(place, lead.keys[stored[0]], source, parted)
        for place in self._left_alone(parted):
            group = next(g for g in lead.groups if place in g)
            beside = next((lead.keys[p] for p in group if p in lead.keys), None)
            if beside is not None:
                parted.add(place, place, rows[beside], beside)
        return parted

    def _part_one(self, place: str, beside: str, source: Row, parted: _Parted) -> None:
        row = self._row(place)
        if None in row:
            return
        parted.settled.add(place)
        if [t and t.blob for t in row] == [t and t.blob for t in source]:
            return
        parted.names.append(place)
        if row[0] is not None and source[0] is not None and row[0].blob != source[0].blob:
            return  # The leading checkpoint itself has two, whatever its config.json says.
        if place in self._lead.keys:
            parted.doubles.append(self._lead.keys[place])
        else:
            parted.add(self._key_for(place), place, row, beside)

    def _key_for(self, place: str) -> str:
        """How another checkpoint calls a tensor that the leading one has none of, if that can be loaded."""
        model = self._lead.anatomy
        keys = [o.keys[place] for o in self._operands if place in o.keys]
        return next((k for k in keys if model is not None and model.places([k]).of.get(k) == place), place)

    def _left_alone(self, parted: _Parted) -> list[str]:
        """Places that are no longer tied either once those of `parted` are not, and that nobody stores."""
        config = config_of(self._objects, self._lead_manifest)
        if not parted.names or config is None:
            return []
        gone = left_untied(config, parted.names)
        return sorted(gone - set(self._lead.keys) - set(parted.places.values()))
