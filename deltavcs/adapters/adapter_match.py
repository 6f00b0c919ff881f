"""An adapter and its base, matched: which tensors on disk change, by what, and what stands in the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from deltavcs.adapters.adapted_parameters import AdaptedParameters, ends_with
from deltavcs.adapters.adapter_config import AdapterConfig
from deltavcs.adapters.adapter_keys import AdapterKey, Part, whole_names
from deltavcs.adapters.base_weights import BaseWeights, Place
from deltavcs.adapters.factors import Factors, Grouped, group_tensors
from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import TensorEntry

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class TokenRows:
    """Rows of an embedding that an adapter replaces (`peft.TrainableTokensModel`)."""

    rows: TensorEntry
    tokens: tuple[int, ...]


@dataclass(slots=True)
class AdapterMatch:
    """What an adapter changes, by the names of the base's tensors on disk.

    Attributes:
        factors: what is added to a tensor, in the order of the adapter.
        whole: tensor that takes the place of another.
        new: name in memory → tensor that the base has not: a new head.
        biases: what is added to a bias, and how many times.
        tokens: rows that are replaced.
        untied: name in memory of a weight that the base ties, and that differs now → tensor it is stored as.
        problems: why folding it would be wrong or impossible; clauses.
    """

    factors: dict[str, list[Factors]] = field(default_factory=dict)
    whole: dict[str, TensorEntry] = field(default_factory=dict)
    new: dict[str, TensorEntry] = field(default_factory=dict)
    biases: dict[str, tuple[TensorEntry, float]] = field(default_factory=dict)
    tokens: dict[str, TokenRows] = field(default_factory=dict)
    untied: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def match_adapter(
    config: AdapterConfig, adapter: Mapping[str, TensorEntry], base: BaseWeights
) -> AdapterMatch:
    """Match a LoRA adapter with a base.

    Args:
        adapter: its tensors by the names in its file.

    Raises:
        InvalidInputError: `incompatible` if a module is not in the base, has other sizes there, or if a
            factor lacks its twin.
    """
    grouped = group_tensors(adapter)
    found = _Matching(config, grouped, base)
    found.match()
    return found.result


class _Matching:
    """The state of one match."""

    def __init__(self, config: AdapterConfig, grouped: Grouped, base: BaseWeights) -> None:
        self._config, self._grouped, self._base = config, grouped, base
        self._parameters = AdaptedParameters(config, base)
        self.result = AdapterMatch()

    def match(self) -> None:
        """Fill `result`."""
        base, grouped, problems = self._base, self._grouped, self.result.problems
        names = {module: self._parameters.parameter(module) for module in grouped.modules()}
        plain = [AdapterKey(m, Part.WHOLE).plain_module for m in names]
        base.learn(names.values(), perhaps=(f"{m}.bias" for m in plain))
        self._check_modules(names)
        problems += [f"it holds {name}, which is no tensor of plain LoRA" for name in grouped.other[:1]]
        if grouped.twice:
            problems.append(f"it holds both {' and '.join(grouped.twice)}: two adapters in one file")
        for name, entry in grouped.whole.items():
            self._whole(name, entry)
        # Square weights last: what the others say of the order counts for them where no model is known.
        for module, name in sorted(names.items(), key=lambda item: self._is_square(item[0])):
            self._factors(module, name)
        told = "is square, and neither its shape nor a config.json of the base tells which way round it lies"
        problems += [f"{module} {told}" for module in self._parameters.doubts[:1]]
        self._extras(names)

    def _check_modules(self, names: Mapping[str, str]) -> None:
        missing = []
        for name in names.values():
            try:
                if self._base.find(name) is None:
                    missing.append(name.removesuffix(".weight"))
            except InvalidInputError as exc:
                self.result.problems.append(str(exc))
        if missing:
            raise _unknown_modules(missing, len(names), self._base)

    def _whole(self, name: str, entry: TensorEntry) -> None:
        result, base = self.result, self._base
        spelt = whole_names(name)
        place = next((p for n in spelt if (p := base.find(n)) is not None), None)
        if place is None:
            new = next((m for n in spelt if (m := base.memory_name(n)) is not None), spelt[0])
            result.new.setdefault(new, entry)
            return
        piece = place.pieces[0]
        if len(place.pieces) > 1 or piece.rows is not None:
            result.problems.append(f"it holds {name} whole, which the base stores in parts")
        elif place.tied_to is not None and place.memory is not None:
            result.new[place.memory] = entry
            result.untied[place.memory] = piece.key
        elif base.entries[piece.key].shape[1:] != entry.shape[1:]:
            raise _misfit(name, f"is {list(entry.shape)}", list(base.entries[piece.key].shape))
        elif piece.key not in result.whole or ".modules_to_save." in name:
            result.whole[piece.key] = entry

    def _factors(self, module: str, name: str) -> None:
        a, b, embedding = self._pair(module)
        try:
            place = self._base.find(name)
        except InvalidInputError:
            return  # told before
        assert place is not None
        spelt = self._parameters.patterned(module, name)
        entry = self._entry(place)
        stacked = place.experts == 1 and len(entry.shape) == 3 and self._parameters.is_target(name)
        experts = entry.shape[0] if stacked else place.experts
        rank = self._config.rank_of(spelt)
        if a.shape[0] != experts * rank or b.shape[1] != experts * rank:
            raise _misfit(module, _told(a, b), f"the rank {rank} of its configuration")
        sizes = (b.shape[0], prod(a.shape[1:])), self._base.matrix(place, entry.shape, stacked=stacked)
        transposed = self._parameters.orientation(
            module, name, place, sizes, stacked=stacked or place.experts > 1
        )
        if embedding:
            transposed = True if sizes[0][::-1] == sizes[1] else None
        if transposed is None:
            self._tell_misfit(module, (a, b), place, embedding=embedding)
            return
        magnitude = self._magnitude(module, place)
        if place.tied_to is not None and place.memory is not None:
            self.result.untied[place.memory] = place.pieces[0].key
        for piece in place.pieces:
            key = place.memory if place.tied_to is not None and place.memory else piece.key
            of_one = piece.expert is not None
            rows = self._base.entries[piece.key].shape[0] if of_one else piece.rows
            made = Factors(
                a, b, spelt, self._config.scale(spelt), transposed=transposed, stacked=stacked,
                experts=experts, expert=piece.expert, first=piece.first, at=piece.at, rows=rows,
                magnitude=magnitude,
            )  # fmt: skip
            self.result.factors.setdefault(key, []).append(made)

    def _magnitude(self, module: str, place: Place) -> TensorEntry | None:
        found = self._grouped.extra(module, Part.MAGNITUDE)
        if (found is not None) != self._config.dora:
            self.result.problems.append(f"{module} has {'a' if found else 'no'} magnitude vector of DoRA")
        if found is not None and (len(place.pieces) > 1 or place.pieces[0].rows is not None):
            self.result.problems.append(f"{module} is stored in parts, and DoRA changes it as one")
        return found

    def _pair(self, module: str) -> tuple[TensorEntry, TensorEntry, bool]:
        halves = self._grouped.halves
        for embedding in (False, True):
            a, b = (halves.get(AdapterKey(module, part, embedding)) for part in (Part.A, Part.B))
            if a is not None and b is not None and min(len(a.shape), len(b.shape)) >= 2:
                return a, b, embedding
            if a is not None or b is not None:
                break
        raise InvalidInputError(
            f"{module}: an adapter needs both A and B, and both as matrices", kind=ErrorKind.INCOMPATIBLE
        )

    def _is_square(self, module: str) -> bool:
        a, b, _ = self._pair(module)
        return b.shape[0] == prod(a.shape[1:])

    def _entry(self, place: Place) -> TensorEntry:
        """The tensor that the factors are added to: the base's, or what the adapter has in its place."""
        key = place.pieces[0].key
        if place.tied_to is not None and place.memory in self.result.new:
            return self.result.new[place.memory]
        return self.result.whole.get(key) or self._base.entries[key]

    def _tell_misfit(
        self, module: str, pair: tuple[TensorEntry, TensorEntry], place: Place, *, embedding: bool
    ) -> None:
        """Refuse factors of other sizes; those of a vocabulary that was resized are only told."""
        a, b = pair
        shape = self._entry(place).shape
        inputs, outputs = prod(a.shape[1:]), b.shape[0]
        rows, columns = (inputs, outputs) if embedding else (outputs, inputs)
        if columns != prod(shape[1:]) or not self._base.is_vocabulary(place):
            raise _misfit(module, _told(a, b), list(shape))
        self.result.problems.append(
            f"{module} has factors for {rows} rows, and the base has {shape[0] if shape else 0}: the"
            " vocabulary was resized and the adapter does not hold it"
        )

    def _extras(self, names: Mapping[str, str]) -> None:
        tied: dict[str, TokenRows] = {}
        for key, entry in self._grouped.extras.items():
            if key.part is Part.TOKENS:
                self._tokens(key.module, entry, tied)
            elif key.part is Part.BIAS:
                self._bias(key, names, entry)
        for key_of_source, rows in tied.items():
            if self.result.tokens.get(key_of_source) != rows:
                self.result.problems.append(
                    f"it trained tokens of a weight that is tied to {key_of_source}, and not the same of that"
                )

    def _bias(self, key: AdapterKey, names: Mapping[str, str], entry: TensorEntry) -> None:
        place = self._base.find(f"{key.plain_module}.bias")
        if place is None or place.tied_to is not None or len(place.pieces) > 1:
            self.result.problems.append(f"it trained a bias of {key.module}, which has none in the base")
            return
        scale = self._config.scale(self._parameters.patterned(key.module, names.get(key.module, "")))
        self.result.biases[place.pieces[0].key] = entry, scale

    def _tokens(self, module: str, entry: TensorEntry, tied: dict[str, TokenRows]) -> None:
        table, problems = self._config.tokens, self.result.problems
        named = [rows for name, rows in table.items() if ends_with(module, name)]
        rows = TokenRows(entry, named[0] if named else table.get("", ()))
        place = self._base.find(f"{module}.weight")
        if place is None:
            problems.append(f"it trained tokens of {module}, which the base does not have")
        elif len(rows.tokens) != entry.shape[0]:
            problems.append(f"{module} has {entry.shape[0]} trained rows for {len(rows.tokens)} tokens")
        elif place.tied_to is not None:
            tied[place.pieces[0].key] = rows
        else:
            size = self._entry(place).shape
            if entry.shape[1:] != size[1:] or any(not 0 <= t < size[0] for t in rows.tokens):
                problems.append(f"{module} has trained rows that are not in the base's {list(size)}")
            self.result.tokens[place.pieces[0].key] = rows


def _told(a: TensorEntry, b: TensorEntry) -> str:
    return f"has the factors {list(a.shape)} and {list(b.shape)}"


def _misfit(what: str, has: str, base: object) -> InvalidInputError:
    fitting = f"the weight {base} of the base" if isinstance(base, list) else base
    return InvalidInputError(
        f"{what} {has}, which does not fit {fitting}", kind=ErrorKind.INCOMPATIBLE, advice=Advice.CHECK_BASE
    )


def _unknown_modules(missing: list[str], n_modules: int, base: BaseWeights) -> InvalidInputError:
    names = list(dict.fromkeys(missing))
    more = len(names) - _SHOWN
    shown = ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
    message = f"the adapter changes {shown}, which the base does not have"
    if len(missing) == n_modules:
        of_layers = [k for k in base.entries if k.endswith(".weight") and ".0." in k]
        example = next(iter([*of_layers, *base.entries]), "nothing")
        message = (
            f"the base has none of the modules that the adapter changes ({shown}); its own weights are called"
            f" like {example}"
        )
    return InvalidInputError(message, kind=ErrorKind.INCOMPATIBLE, advice=Advice.CHECK_BASE)
