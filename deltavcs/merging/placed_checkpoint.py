"""One checkpoint of several, its tensors known by their places in the leading one's model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deltavcs.advice import Advice
from deltavcs.checkpoint.anatomy import Anatomy
from deltavcs.checkpoint.correspondence import unwrapped
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import TensorEntry


class PlacedCheckpoint:
    """A checkpoint whose tensors are known by their places in the leading one's model.

    Attributes:
        table: its own tensors by key.
        anatomy: of its own config.json, for what it ties.
        spelling: key → place.
        wrapped: no name of it is one that a model can load.
        keys: place → key; filled by whoever brings checkpoints together.
        groups: places that it ties.
    """

    def __init__(
        self,
        name: str,
        table: Mapping[str, TensorEntry],
        anatomy: Anatomy | None,
        model: Anatomy | None,
    ) -> None:
        """Ask the leading checkpoint's `model`, where it has one, for the places of the tensors."""
        self.name, self.table, self.anatomy = name, table, anatomy
        self._model = model
        self._places = model.places(self.table) if model is not None else None
        self.spelling = dict(self._places.of) if self._places is not None else {}
        self.wrapped = bool(table) and not unwrapped(table).keys() & table.keys()
        self.keys: dict[str, str] = {}
        groups = anatomy.tied_groups() if anatomy is not None else []
        self.groups = [tuple(self._spelled(name) for name in group) for group in groups]

    def _spelled(self, name: str) -> str:
        return self._model.places([name]).of.get(name, name) if self._model is not None else name

    def parameter(self, place: str) -> str:
        """Name in memory of the parameter that a place is, or is a part of."""
        return self._places.parameters.get(place, place) if self._places is not None else place

    def place(self, key: str) -> str:
        """The place of a tensor; its key where the model has none for it."""
        return self.spelling.get(key, key)

    def find(self, place: str) -> str | None:
        """The key of the tensor at a place: its own, or that of one that it is tied to."""
        if place in self.keys:
            return self.keys[place]
        tied = (p for group in self.groups if place in group for p in group if p in self.keys)
        return next((self.keys[p] for p in tied), None)

    def entry(self, place: str) -> TensorEntry | None:
        """The tensor that `find` finds."""
        key = self.find(place)
        return self.table[key] if key is not None else None


def check_parts(
    lead: PlacedCheckpoint, other: PlacedCheckpoint, ours: Sequence[str], theirs: Sequence[str]
) -> None:
    """Refuse what loading makes the same parameter of in another way."""
    stored = {other.parameter(other.place(key)): key for key in theirs}
    for key in ours:
        parameter = lead.parameter(lead.place(key))
        if parameter in stored:
            raise InvalidInputError(
                f"{lead.name} stores {key} where {other.name} stores {stored[parameter]}: loading makes"
                f" {parameter} of both, but of other parts",
                kind=ErrorKind.INCOMPATIBLE,
                advice=Advice.SAVE_ALIKE,
            )
