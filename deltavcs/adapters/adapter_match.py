"""An adapter and its base, matched: which tensors on disk change, by what, and what stands in the way of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from deltavcs.adapters.adapter_config import AdapterConfig
from deltavcs.adapters.adapter_keys import AdapterKey, Part, whole_names
from deltavcs.adapters.base_weights import BaseWeights, Piece, Place
from deltavcs.adapters.factors import Factors, Grouped, group_tensors
from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import TensorEntry
from deltavcs.skeleton.layers import lies_transposed, own_parameters, stacked_transposed

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
        InvalidInputError: `incompatible` if a module is not in the base, has other sizes there, or if a factor
            lacks its twin.
    """
    grouped = group_tensors(adapter)
    found = _Matching(config, grouped, base)
    found.match()
    return found.result


class _Matching:
    """The state of one match."""

    def __init__(self, config: AdapterConfig, grouped: Grouped, base: BaseWeights) -> None:
        self._config, self._grouped, self._base = config, grouped, base
        self._certain: set[bool] = set()  # which way round the weights lie whose shapes tell it
        self.result = AdapterMatch()

    def match(self) -> None:
        """Fill `result`."""
        base, grouped = self._base, self._grouped
        names = {module: self._parameter(module) for module in grouped.modules()}
        plain = [AdapterKey(m, Part.WHOLE).plain_module for m in names]
        base.learn([*names.values(), *(f"{m}.bias" for m in plain)])
        self._check_modules(names)
        if grouped.other:
            self.result.problems.append(f"it holds {grouped.other[0]}, which is no tensor of plain LoRA")
        for name, entry in grouped.whole.items():
            self._whole(name, entry)
        # Square weights last: what the others say of the order counts for them where no model is known.
        for module, name in sorted(names.items(), key=lambda item: self._is_square(item[0])):
            self._factors(module, name)
        for key, entry in grouped.extras.items():
            if key.part is Part.TOKENS:
                self._tokens(key.module, entry)
            elif key.part is Part.BIAS:
                self._bias(key, names, entry)

    def _parameter(self, module: str) -> str:
        """The whole name of the parameter that the factors of a module adapt."""
        key = AdapterKey(module, Part.A)
        targets = self._config.target_parameters
        adapted = [t for t in targets if _ends_with(key.plain_module, t.rpartition(".")[0])]
        if not adapted:
            return f"{key.plain_module}.weight"
        base = self._base
        spelt = key.plain_module
        if base.skeleton is not None:
            memory = next((m for t in adapted if (m := base.memory_name(f"{spelt}.{_leaf(t)}"))), None)
            own = own_parameters(base.skeleton, memory.rpartition(".")[0]) if memory else ()
            # PEFT wraps the first parameter first, so the last one is outermost.
            adapted = [p for p in own if any(_ends_with(f"{spelt}.{p}", t) for t in adapted)]
        leaves = list(reversed([_leaf(t) for t in adapted]))
        return f"{spelt}.{leaves[key.depth] if key.depth < len(leaves) else 'weight'}"

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
        stack = self._config.target_parameters and place.experts == 1 and self._is_stack(name, place)
        experts = self._entry(place).shape[0] if stack else place.experts
        rank = self._config.rank_of(self._patterned(module, name))
        if a.shape[0] != experts * rank or b.shape[1] != experts * rank:
            raise _misfit(
                module,
                f"has the factors {list(a.shape)} and {list(b.shape)}",
                f"the rank {rank} of its configuration",
            )
        size = self._matrix(place, stacked=bool(stack))
        transposed = self._orientation(
            module, name, (a, b), size, place=place, stacked=bool(stack) or experts > 1
        )
        if transposed is None or (embedding and not transposed):
            self._tell_misfit(module, (a, b), place, embedding=embedding)
            return
        magnitude = self._grouped.extra(module, Part.MAGNITUDE)
        if (magnitude is not None) != self._config.dora:
            self.result.problems.append(f"{module} has {'a' if magnitude else 'no'} magnitude vector of DoRA")
        if magnitude is not None and (len(place.pieces) > 1 or place.pieces[0].rows is not None):
            self.result.problems.append(f"{module} is stored in parts, and DoRA changes it as one")
        if place.tied_to is not None and place.memory is not None:
            self.result.untied[place.memory] = place.pieces[0].key
        for piece in place.pieces:
            key = place.memory if place.tied_to is not None and place.memory else piece.key
            self.result.factors.setdefault(key, []).append(
                Factors(
                    a, b, self._patterned(module, name), self._config.scale(self._patterned(module, name)),
                    transposed=transposed, stacked=bool(stack), experts=experts, expert=piece.expert, first=piece.first,
                    at=piece.at, rows=self._rows(piece), magnitude=magnitude,
                )
            )  # fmt: skip

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

    def _patterned(self, module: str, name: str) -> str:
        """What PEFT matches patterns with: the module, or the parameter if one is adapted."""
        adapted = any(_ends_with(name, t) for t in self._config.target_parameters)
        return name if adapted else AdapterKey(module, Part.A).plain_module

    def _is_square(self, module: str) -> bool:
        a, b, _ = self._pair(module)
        return b.shape[0] == prod(a.shape[1:])

    def _is_stack(self, name: str, place: Place) -> bool:
        adapted = any(_ends_with(name, t) for t in self._config.target_parameters)
        return adapted and len(self._entry(place).shape) == 3

    def _entry(self, place: Place) -> TensorEntry:
        """The tensor that the factors are added to: the base's, or what the adapter has in its place."""
        key = place.pieces[0].key
        if place.tied_to is not None and place.memory in self.result.new:
            return self.result.new[place.memory]
        return self.result.whole.get(key) or self._base.entries[key]

    def _matrix(self, place: Place, *, stacked: bool) -> tuple[int, int]:
        """Rows and columns of the (one expert's) matrix that the factors make."""
        shape = self._entry(place).shape
        if stacked:
            return shape[1], shape[2]
        of_one = [p for p in place.pieces if p.expert in (None, 0)]
        rows = [p.rows or self._base.entries[p.key].shape[0] for p in of_one]
        return sum(rows) if len(rows) > 1 or of_one[0].rows else shape[0], prod(shape[1:])

    def _rows(self, piece: Piece) -> int | None:
        return self._base.entries[piece.key].shape[0] if piece.expert is not None else piece.rows

    def _orientation(
        self, module: str, name: str, pair: tuple[TensorEntry, TensorEntry], size: tuple[int, int], *, place: Place,
        stacked: bool,
    ) -> bool | None:  # fmt: skip
        """Whether the weight is [in, out]; None if the factors do not fit it either way round."""
        a, b = pair
        if (AdapterKey(module, Part.A, True)) in self._grouped.halves:
            return True if (prod(a.shape[1:]), b.shape[0]) == size else None
        fits = {t for t in (False, True) if ((b.shape[0], prod(a.shape[1:]))[:: -1 if t else 1]) == size}
        if len(fits) == 1:
            self._certain |= fits
            return fits.pop()
        return self._square(module, name, place, stacked=stacked) if fits else None

    def _square(self, module: str, name: str, place: Place, *, stacked: bool) -> bool:
        skeleton = self._base.skeleton
        if skeleton is not None and place.memory is not None:
            if stacked:
                return stacked_transposed(skeleton, place.memory)
            if any(_ends_with(name, t) for t in self._config.target_parameters):
                return False
            if (told := lies_transposed(skeleton, place.memory)) is not None:
                return told
        flag = self._config.fan_in_fan_out
        if stacked or self._certain - {flag}:
            self.result.problems.append(
                f"{module} is square, and neither its shape nor a config.json of the base tells which way round it lies"
            )
        return flag

    def _tell_misfit(
        self, module: str, pair: tuple[TensorEntry, TensorEntry], place: Place, *, embedding: bool
    ) -> None:
        """Refuse factors of other sizes; those of a vocabulary that was resized are only told."""
        a, b = pair
        shape = self._entry(place).shape
        inputs, outputs = prod(a.shape[1:]), b.shape[0]
        rows, columns = (inputs, outputs) if embedding else (outputs, inputs)
        told = f"{module} has factors for {rows} rows, and the base has {shape[0] if shape else 0}"
        if columns == prod(shape[1:]) and self._is_vocabulary(place):
            self.result.problems.append(
                f"{told}: the vocabulary was resized and the adapter does not hold it"
            )
            return
        raise _misfit(module, f"has the factors {list(a.shape)} and {list(b.shape)}", list(shape))

    def _is_vocabulary(self, place: Place) -> bool:
        skeleton = self._base.skeleton
        if skeleton is None or place.memory is None:
            return False
        held = skeleton.module_of(place.memory)
        return held is not None and held in (
            skeleton.model.get_input_embeddings(), skeleton.model.get_output_embeddings(),
        )  # fmt: skip

    def _bias(self, key: AdapterKey, names: Mapping[str, str], entry: TensorEntry) -> None:
        place = self._base.find(f"{key.plain_module}.bias")
        if place is None or place.tied_to is not None or len(place.pieces) > 1:
            self.result.problems.append(f"it trained a bias of {key.module}, which has none in the base")
            return
        scale = self._config.scale(self._patterned(key.module, names.get(key.module, "")))
        self.result.biases[place.pieces[0].key] = entry, scale

    def _tokens(self, module: str, entry: TensorEntry) -> None:
        table = self._config.tokens
        named = [rows for name, rows in table.items() if _ends_with(module, name)]
        tokens = named[0] if named else table.get("", ())
        place = self._base.find(f"{module}.weight")
        if place is None or place.tied_to is not None:
            self.result.problems.append(
                f"it trained tokens of {module}, which the base has not as a weight of its own"
            )
        elif len(tokens) != entry.shape[0]:
            self.result.problems.append(
                f"{module} has {entry.shape[0]} trained rows for {len(tokens)} tokens"
            )
        else:
            self.result.tokens[place.pieces[0].key] = TokenRows(entry, tokens)


def _ends_with(name: str, suffix: str) -> bool:
    return bool(suffix) and (name == suffix or name.endswith("." + suffix))


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _misfit(what: str, has: str, base: object) -> InvalidInputError:
    return InvalidInputError(
        f"{what} {has}, which does not fit {f'the weight {base} of the base' if isinstance(base, list) else base}",
        kind=ErrorKind.INCOMPATIBLE,
        advice=Advice.CHECK_BASE,
    )


def _unknown_modules(missing: list[str], n_modules: int, base: BaseWeights) -> InvalidInputError:
    shown = ", ".join(missing[:_SHOWN]) + (
        f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    )
    if len(missing) == n_modules:
        example = next(
            (k for k in base.entries if k.endswith(".weight") and ".0." in k),
            next(iter(base.entries), "none"),
        )
        message = f"the base has none of the modules that the adapter changes ({shown}); its own are called like {example}"
    else:
        message = f"the adapter changes {shown}, which the base does not have"
    return InvalidInputError(message, kind=ErrorKind.INCOMPATIBLE, advice=Advice.CHECK_BASE)
