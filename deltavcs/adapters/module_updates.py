"""What LoRA adapters do to each module, and how two of them differ: always by the product s·B·A.

B·A is the same for B·R and R⁻¹·A: two adapters that do the same may share no number. Nothing here needs the
base but the norms of its weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deltavcs.adapters.adapter_config import LORA, AdapterConfig, read_adapter_config
from deltavcs.adapters.adapter_keys import AdapterKey, Part, parse_key
from deltavcs.adapters.adapter_match import match_adapter
from deltavcs.adapters.base_weights import BaseWeights
from deltavcs.adapters.factors import Factors, group_tensors
from deltavcs.adapters.foreign_loras import foreign_lora_in
from deltavcs.adapters.updates import Update, updates_of
from deltavcs.brief import brief
from deltavcs.checkpoint.elements import read_elements
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import Manifest, TensorEntry
from deltavcs.objects.store import ObjectStore
from deltavcs.tensors.dtypes import dtype_of, n_elements

_SPAN_ELEMENTS = 1 << 18


@dataclass(frozen=True, slots=True)
class ModuleUpdate:
    """What an adapter adds to one weight.

    Attributes:
        module: as the trained model named it.
        rank: of its factors.
        shape: of B·A.
        scale: s.
        l2: ‖s·B·A‖₂; None if a factor holds NaN or Inf.
        scaled: the sum of weight and product is scaled by a magnitude per output (DoRA).
    """

    module: str
    rank: int
    shape: tuple[int, int]
    scale: float
    l2: float | None
    scaled: bool = False

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class ModuleDiff:
    """How what adapter B adds to a weight differs from what A does; one that leaves it alone adds zero.

    Attributes:
        rank_a, rank_b: of the factors; 0 where there are none.
        l2_a, l2_b: ‖s·B·A‖₂ of both.
        l2: ‖B's − A's‖₂.
        relative_l2: that as a part of `l2_a`.
        cosine: between both.
        weight_l2: ‖W‖₂ of the base's weight, where it is known.
        same: both have the same factors and scale, to the bit.
    """

    module: str
    shape: tuple[int, int]
    rank_a: int
    rank_b: int
    l2_a: float
    l2_b: float
    l2: float
    relative_l2: float | None
    cosine: float | None
    weight_l2: float | None
    same: bool

    __repr__ = brief


class ModuleUpdates:
    """The products of a stored LoRA adapter.

    Attributes:
        factors: by module; adapted parameters of one module stand under it with `.base_layer` each.
        keys: the tensors that these are.
        several: a module has factors of several adapters, and nothing tells which of them are meant.
    """

    def __init__(self, objects: ObjectStore, adapter: Manifest, config: AdapterConfig) -> None:
        self._objects, self.adapter, self.config = objects, adapter, config
        grouped = group_tensors(adapter.primary)
        self.several = bool(grouped.twice)
        self.factors: dict[str, Factors] = {}
        for module in grouped.modules():
            found = _factors(module, grouped.halves, config)
            if found is not None:
                self.factors[module] = found
        used = {
            AdapterKey(m, part, e) for m in self.factors for part in (Part.A, Part.B) for e in (False, True)
        }
        self.keys = frozenset(k for k in adapter.primary if parse_key(k) in used)

    def updates(self, module: str) -> list[Update]:
        """The update of a module, one for each matrix that its weight stacks; none if it is left alone."""
        found = self.factors.get(module)
        return [] if found is None else [update for _, update in updates_of(self._objects, [found])]

    def describe(self) -> list[ModuleUpdate]:
        """Every module with the norm of its update."""
        out = []
        for module, factors in self.factors.items():
            updates = self.updates(module)
            norm = math.sqrt(sum(u.norm() ** 2 for u in updates))
            out.append(
                ModuleUpdate(
                    module=module,
                    rank=updates[0].rank,
                    shape=updates[0].shape,
                    scale=factors.scale,
                    l2=norm if math.isfinite(norm) else None,
                    scaled=self.config.dora,
                )
            )
        return out


def module_updates(objects: ObjectStore, adapter: Manifest) -> ModuleUpdates | None:
    """The products of an adapter; None if it is of a type that has none."""
    if foreign_lora_in(adapter) is not None:
        return None
    try:
        config = read_adapter_config(objects, adapter)
    except InvalidInputError as exc:
        if exc.kind is not ErrorKind.BAD_CHECKPOINT:
            raise
        return None
    found = ModuleUpdates(objects, adapter, config) if config.peft_type == LORA else None
    return found if found is not None and found.factors and not found.several else None


def _factors(module: str, halves: Mapping[AdapterKey, TensorEntry], config: AdapterConfig) -> Factors | None:
    for embedding in (False, True):
        a, b = (halves.get(AdapterKey(module, part, embedding)) for part in (Part.A, Part.B))
        if a is None or b is None or min(len(a.shape), len(b.shape)) < 2 or a.shape[0] != b.shape[1]:
            continue
        plain = AdapterKey(module, Part.A).plain_module
        targets = [t for t in config.target_parameters if f"{plain}.".endswith(f"{t.rpartition('.')[0]}.")]
        named = f"{plain}.{targets[0].rpartition('.')[2]}" if targets else plain
        rank = config.rank_of(named)
        experts = a.shape[0] // rank if targets and rank and a.shape[0] % rank == 0 else 1
        return Factors(a, b, module, config.scale(named), experts=experts, stacked=experts > 1)
    return None


def diff_modules(a: ModuleUpdates, b: ModuleUpdates, norms: Mapping[str, float]) -> list[ModuleDiff]:
    """Compare two adapters module by module.

    Args:
        norms: ‖W‖ of the base's weights by module, where they are known.
    """
    return [_diff(module, a, b, norms.get(module)) for module in dict.fromkeys([*a.factors, *b.factors])]


def _diff(module: str, a: ModuleUpdates, b: ModuleUpdates, weight: float | None) -> ModuleDiff:
    ours, theirs = a.updates(module), b.updates(module)
    lead = (ours or theirs)[0]
    aa, bb = (sum(u.norm() ** 2 for u in x) for x in (ours, theirs))
    ab = sum(x.dot(y) for x, y in zip(ours, theirs, strict=False))
    same = _same(a.factors.get(module), b.factors.get(module))
    if same:
        moved = 0.0
    elif not ours or not theirs or [u.shape for u in ours] != [u.shape for u in theirs]:
        moved = math.sqrt(aa + bb)
    else:
        moved = math.sqrt(sum(y.minus(x).norm() ** 2 for x, y in zip(ours, theirs, strict=True)))
    return ModuleDiff(
        module=module,
        shape=lead.shape,
        rank_a=ours[0].rank if ours else 0,
        rank_b=theirs[0].rank if theirs else 0,
        l2_a=math.sqrt(aa),
        l2_b=math.sqrt(bb),
        l2=moved,
        relative_l2=moved / math.sqrt(aa) if aa else None,
        cosine=ab / math.sqrt(aa * bb) if aa and bb else None,
        weight_l2=weight,
        same=same,
    )


def _same(a: Factors | None, b: Factors | None) -> bool:
    if a is None or b is None:
        return False
    return (a.a.blob, a.b.blob, a.scale, a.experts) == (b.a.blob, b.b.blob, b.scale, b.experts)


def weight_norms(objects: ObjectStore, adapters: Sequence[ModuleUpdates], base: Manifest) -> dict[str, float]:
    """‖W‖ of the weights of a base that adapters change, by module; of those that can be told.

    A weight that lies on disk in several tensors, or as some rows of one, counts with those.
    """
    weights = BaseWeights(objects, base)
    squares: dict[str, float] = {}
    for adapter in adapters:
        try:
            found = match_adapter(adapter.config, adapter.adapter.primary, weights)
        except InvalidInputError as exc:
            if exc.kind is not ErrorKind.INCOMPATIBLE:
                raise
            continue
        by_factor = {f.a.blob: m for m, f in adapter.factors.items()}
        told: dict[str, float] = {}
        for key, factors in found.factors.items():
            entry = weights.entries.get(found.untied.get(key, key))
            for one in factors:
                module = by_factor.get(one.a.blob)
                if entry is not None and module is not None:
                    told[module] = told.get(module, 0.0) + _squares(objects, entry, one.at, one.rows)
        squares |= {m: value for m, value in told.items() if m not in squares}
    return {m: math.sqrt(value) for m, value in squares.items() if math.isfinite(value)}


def _squares(objects: ObjectStore, entry: TensorEntry, first: int, rows: int | None) -> float:
    """The sum of squares of some rows of a tensor, or of all; NaN if it has no arithmetic."""
    if not dtype_of(entry.dtype).arithmetic:
        return math.nan
    columns = n_elements(entry.shape[1:])
    start, stop = first * columns, n_elements(entry.shape) if rows is None else (first + rows) * columns
    total = 0.0
    for at in range(start, stop, _SPAN_ELEMENTS):
        values = read_elements(objects, entry, at, min(_SPAN_ELEMENTS, stop - at))
        with np.errstate(all="ignore"):
            total += float(values @ values)
    return total
