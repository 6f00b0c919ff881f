"""Where a weight that an adapter names lies in its base: names as trained → tensors on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from deltavcs.checkpoint.layout import CONFIG, MAX_JSON_BYTES
from deltavcs.errors import ErrorKind, InvalidInputError, MissingDependencyError
from deltavcs.objects.model import Manifest, TensorEntry
from deltavcs.objects.store import ObjectStore
from deltavcs.skeleton.skeleton import Skeleton, skeleton_of
from deltavcs.skeleton.weight_names import WeightNames, WeightSource, match_names


@dataclass(frozen=True, slots=True)
class Piece:
    """A tensor on disk that is a parameter, or part of one, or that several parameters are parts of.

    Attributes:
        expert: which expert's matrix of a stack it is; None if it is all of them.
        first: the first row of the parameter (of the expert's matrix) that it holds.
        at: the first of its own rows that belongs to the parameter.
        rows: how many rows of it do; None for all.
    """

    key: str
    expert: int | None = None
    first: int = 0
    at: int = 0
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a parameter is.

    Attributes:
        memory: its name in the model that transformers makes of the base; None if the model is not known.
        pieces: where it is on disk.
        experts: how many matrices of `pieces` it stacks; 1 if it is on disk as it is in memory.
        tied_to: name in memory of the parameter that it is tied to and stored as.
    """

    memory: str | None
    pieces: tuple[Piece, ...]
    experts: int = 1
    tied_to: str | None = None


class BaseWeights:
    """The weights of a base, by the names that an adapter may give them.

    Args:
        model: ask transformers what model it is, which takes seconds; else names are those of its tensors.
    """

    def __init__(self, objects: ObjectStore, manifest: Manifest, *, model: bool = True) -> None:
        self._objects, self.manifest, self._model = objects, manifest, model
        self.entries: Mapping[str, TensorEntry] = manifest.primary
        self._given: dict[str, Place | None] = {}
        self._in_memory: dict[str, str | None] = {}
        self._added, self._removed = "", ""

    def by_name(self) -> BaseWeights:
        """The same weights without a model."""
        return BaseWeights(self._objects, self.manifest, model=False)

    @cached_property
    def config(self) -> bytes | None:
        """Its config.json."""
        found = next((f for f in self.manifest.files if f.path == CONFIG and f.tensors is None), None)
        return None if found is None else self._objects.blobs.read(found.blob, max_bytes=MAX_JSON_BYTES)

    @cached_property
    def skeleton(self) -> Skeleton | None:
        """Its model without weights; None if there is no config.json that transformers takes."""
        if not self._model or self.config is None:
            return None
        try:
            return skeleton_of(self.config)
        except (InvalidInputError, MissingDependencyError):
            return None

    @cached_property
    def names(self) -> WeightNames | None:
        """How its tensors become the parameters of its model."""
        return match_names(self.skeleton, self.entries) if self.skeleton is not None else None

    def find(self, name: str) -> Place | None:
        """Where a parameter is; None if the base has none of that name.

        Raises:
            InvalidInputError: `incompatible` if it is stored in a way that is not understood.
        """
        if name not in self._given:
            self._given[name] = self._find(name)
        return self._given[name]

    def matrix(self, place: Place, shape: tuple[int, ...], *, stacked: bool) -> tuple[int, int]:
        """Rows and columns of the matrix that a parameter is, or that each of a stack of experts is.

        Args:
            shape: of its tensor, or of what an adapter has instead of that.
            stacked: the tensor is [experts, …, …].
        """
        if stacked:
            return shape[1], shape[2]
        of_one = [p for p in place.pieces if p.expert in (None, 0)]
        rows = [p.rows or self.entries[p.key].shape[0] for p in of_one if self.entries[p.key].shape]
        alone = len(rows) <= 1 and not of_one[0].rows
        return (shape[0] if shape else 1) if alone else sum(rows), prod(shape[1:])

    def is_vocabulary(self, place: Place) -> bool:
        """Whether a parameter belongs to the input embeddings or the head of a language model."""
        skeleton = self.skeleton
        held = skeleton.module_of(place.memory) if skeleton is not None and place.memory is not None else None
        if skeleton is None or held is None:
            return False
        model = skeleton.model
        try:
            return held in (model.get_input_embeddings(), model.get_output_embeddings())
        except (NotImplementedError, AttributeError):  # it takes no tokens
            return False

    def memory_name(self, name: str) -> str | None:
        """The name in memory of a parameter that the adapter spells so, whether or not the base stores it."""
        if name not in self._in_memory:
            self.learn([name])
        return self._in_memory[name]

    def learn(self, names: Iterable[str], *, perhaps: Iterable[str] = ()) -> None:
        """Look up names together, which is cheaper than one by one.

        Where no model tells how names differ, learn the prefix by which all of them do.

        Args:
            perhaps: names that need not be in the base.
        """
        names = list(names)
        new = [name for name in dict.fromkeys([*names, *perhaps]) if name not in self._in_memory]
        shapes = self.skeleton.shapes if self.skeleton is not None else {}
        asked = [name for name in new if name not in shapes]
        self._in_memory.update({name: name if name in shapes else None for name in new})
        if self.skeleton is not None and asked:
            for memory, source in match_names(self.skeleton, asked).sources.items():
                if source.conversion is None:
                    self._in_memory.update(dict.fromkeys(source.names, memory))
        if new and not any(name in self.entries or self._is_stored(name) for name in new):
            self._fit_prefix(names)

    def _is_stored(self, name: str) -> bool:
        memory = self._in_memory[name]
        if memory is None or self.names is None or self.skeleton is None:
            return False
        return any(n in self.names.sources for n in (memory, self.skeleton.tied.get(memory)))

    def _fit_prefix(self, names: Sequence[str]) -> None:
        for key in self.entries:
            added, removed = _prefixes(names[0], key)
            if added != removed and all(_respelt(n, added, removed) in self.entries for n in names):
                self._added, self._removed = added, removed
                self._given.clear()
                return

    def _find(self, name: str) -> Place | None:
        name = _respelt(name, self._added, self._removed) or name
        if name in self.entries:
            memory = self.names.in_memory().get(name) if self.names is not None else None
            return Place(memory, (Piece(name),))
        memory = self.memory_name(name)
        if memory is None or self.names is None or self.skeleton is None:
            return None
        source = self.names.sources.get(memory)
        if source is not None:
            return self._stored(memory, source)
        for other, source in self.names.sources.items():  # one tensor on disk, several parameters
            if source.conversion is not None and memory in (found := self._split(other, source)):
                return found[memory]
        tied_to = self.skeleton.tied.get(memory)
        stored = self.names.sources.get(tied_to or "")
        if tied_to is None or stored is None or stored.conversion is not None:
            return None
        return Place(memory, (Piece(stored.names[0]),), tied_to=tied_to)

    def _stored(self, memory: str, source: WeightSource) -> Place:
        if source.conversion is None:
            return Place(memory, (Piece(source.names[0]),))
        split = self._split(memory, source)
        return split[memory] if memory in split else self._stack(memory, source)

    def _stack(self, memory: str, source: WeightSource) -> Place:
        """A stack of experts' matrices, each of one or several tensors below each other."""
        operations = [type(o).__name__ for o in source.conversion.operations]
        places = [getattr(o, "dim", None) for o in source.conversion.operations]
        known = (["MergeModulelist"], [0]), (["MergeModulelist", "Concatenate"], [0, 1])
        if (operations, places) not in known:
            raise _unknown_layout(memory, operations)
        pieces, first, experts = [], 0, 0
        for pattern in source.conversion.source_patterns:
            group = [n for n, p in zip(source.names, source.patterns, strict=True) if p == pattern]
            experts = max(experts, len(group))
            pieces += [Piece(name, expert, first) for expert, name in enumerate(group)]
            first += self.entries[group[0]].shape[0] if group else 0
        return Place(memory, tuple(pieces), experts)

    def _split(self, memory: str, source: WeightSource) -> dict[str, Place]:
        """Parameters that are equal shares of the rows of one tensor."""
        operations = [type(o).__name__ for o in source.conversion.operations]
        if operations != ["Chunk"] or len(source.names) != 1 or source.conversion.operations[0].dim != 0:
            return {}
        targets = source.conversion.target_patterns
        own = next((t for t in targets if memory.endswith(t) or t in memory), None)
        if own is None:
            return {}
        name = source.names[0]
        rows = self.entries[name].shape[0] // len(targets)
        return {
            memory.replace(own, target): Place(
                memory.replace(own, target), (Piece(name, at=i * rows, rows=rows),)
            )
            for i, target in enumerate(targets)
        }


def _prefixes(name: str, key: str) -> tuple[str, str]:
    """What is to be added before a name, or taken from it, to make a key of it; twice nothing if neither."""
    if key.endswith("." + name):
        return key[: -len(name)], ""
    if name.endswith("." + key):
        return "", name[: -len(key)]
    return "", ""


def _respelt(name: str, added: str, removed: str) -> str:
    return added + name.removeprefix(removed) if name.startswith(removed) else ""


def _unknown_layout(memory: str, operations: list[str]) -> InvalidInputError:
    return InvalidInputError(
        f"{memory} is stored in parts that transformers puts together by {', '.join(operations)}; an adapter"
        " cannot be folded onto those",
        kind=ErrorKind.INCOMPATIBLE,
    )
