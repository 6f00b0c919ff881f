"""Which tensor of one checkpoint is which of another, where names differ by what stands before them.

`torch.compile`, DDP, FSDP and activation checkpointing put a module of their own around a model or a part of
it, and a model with a head puts its bare model under a prefix: `_orig_mod.model.norm.weight`,
`module.lm_head.weight`, `bert.pooler.dense.bias`. The weights are those of the base all the same.

Names that are the same stay so. Otherwise the wrappers are taken out, and the one prefix is found that makes
most names fit, by shape as well. A prefix that does not make half of the smaller checkpoint fit is none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from deltavcs.errors import ErrorKind, InvalidInputError

# What torch.compile, FSDP, activation checkpointing, Lightning, Opacus and PEFT call the module they wrap,
# wherever in a name it stands.
_WRAPPERS = frozenset(
    "_orig_mod _fsdp_wrapped_module _checkpoint_wrapped_module _forward_module _module base_layer".split()
)
# What DDP and PEFT call the model that they wrap: a word that models use as well, so only before all names.
_OUTERMOST = ("module.", "base_model.model.")
_HEAD_PARTS = 3
_MAX_HEADS = 16
# Two prefixes of which one makes nearly as much fit as the other: nobody can tell which is meant.
_RIVAL = 0.75


class Shaped(Protocol):
    """A tensor, of which the shape alone is looked at."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its dimensions."""
        ...


@dataclass(frozen=True, slots=True)
class Correspondence:
    """Which tensor is which.

    Attributes:
        names: our name → their name, for what both have.
        only_ours: names that they lack.
        only_theirs: names that we lack.
    """

    names: Mapping[str, str]
    only_ours: tuple[str, ...]
    only_theirs: tuple[str, ...]

    @property
    def renamed(self) -> dict[str, str]:
        """The names that differ."""
        return {ours: theirs for ours, theirs in self.names.items() if ours != theirs}

    def describe(self) -> str:
        """How our names differ, as a clause: `all names have module. before them`; empty if they do not."""
        renamed = self.renamed
        if not renamed:
            return ""
        everything = len(renamed) == len(self.names) + len(self.only_ours)
        who = "all names" if everything else f"{len(renamed)} names"
        for whose, pairs in (("have", renamed.items()), ("lack", [(t, o) for o, t in renamed.items()])):
            before = {long.removesuffix(short) for long, short in pairs}
            prefix = before.pop() if len(before) == 1 else ""
            if prefix.endswith(".") and all(long == prefix + short for long, short in pairs):
                return f"{who} {whose} {prefix} before them"
        ours, theirs = next(iter(renamed.items()))
        within = sorted(_WRAPPERS & (set(ours.split(".")) - set(theirs.split("."))))
        if within:
            return f"{who} have {' and '.join(within)} in them"
        return f"{who} are spelled otherwise, such as {ours} for {theirs}"


def correspond(
    ours: Mapping[str, Shaped],
    theirs: Mapping[str, Shaped],
    *,
    our_spelling: Mapping[str, str] | None = None,
    their_spelling: Mapping[str, str] | None = None,
) -> Correspondence:
    """Match the tensors of two checkpoints by name and shape.

    Args:
        ours: name → tensor.
        theirs: the same of the other checkpoint.
        our_spelling: our name → how a model in memory spells it, where that is known.
        their_spelling: the same of theirs.

    Raises:
        InvalidInputError: `incompatible` if two tensors of one checkpoint would be the same one of the other.
    """
    if ours.keys() <= theirs.keys() or theirs.keys() <= ours.keys():
        return _made(ours, theirs, {k: k for k in ours if k in theirs})
    a, b = _spelled(ours, our_spelling), _spelled(theirs, their_spelling)
    plain = {k: k for k in ours if k in theirs}
    best = _best(a, b)
    if len(best) <= len(plain) or 2 * len(best) < min(len(ours), len(theirs)):
        best = list(plain.items())
    return _made(ours, theirs, _one_to_one(best))


def _made(
    ours: Mapping[str, object], theirs: Mapping[str, object], names: Mapping[str, str]
) -> Correspondence:
    taken = set(names.values())
    return Correspondence(
        names, tuple(k for k in ours if k not in names), tuple(k for k in theirs if k not in taken)
    )


@dataclass(frozen=True, slots=True)
class _Spelled:
    """A checkpoint under other names: new name → its own."""

    tensors: Mapping[str, Shaped]
    names: Mapping[str, str]


def unwrapped(names: Iterable[str]) -> dict[str, str]:
    """Name without the modules that training wraps around a model → name.

    Raises:
        InvalidInputError: `incompatible` if two names become one.
    """
    found: dict[str, str] = {}
    for name in names:
        _put(found, ".".join(part for part in name.split(".") if part not in _WRAPPERS), name)
    outermost = next((o for o in _OUTERMOST if found and all(n.startswith(o) for n in found)), "")
    return {plain.removeprefix(outermost): name for plain, name in found.items()}


def _spelled(tensors: Mapping[str, Shaped], spelling: Mapping[str, str] | None) -> _Spelled:
    if not spelling:
        return _Spelled(tensors, unwrapped(tensors))
    found: dict[str, str] = {}
    for name in tensors:
        _put(found, spelling.get(name, name), name)
    return _Spelled(tensors, found)


def _put(found: dict[str, str], plain: str, name: str) -> None:
    if plain in found:
        raise _two_become_one(found[plain], name, plain)
    found[plain] = name


def _best(a: _Spelled, b: _Spelled) -> list[tuple[str, str]]:
    """Pairs of names under the prefix that makes most tensors fit."""
    tried = []
    for cut, add in _prefixes(a, b):
        pairs = list(_pairs(a, b, cut, add))
        fitting = sum(same_but_rows(a.tensors[x].shape, b.tensors[y].shape) for x, y in pairs)
        tried.append((fitting, len(pairs), pairs))
    fitting, _, best = max(tried, key=lambda t: t[:2])
    chosen = {y: x for x, y in best}
    for n, _, pairs in tried:
        others = [(x, y) for x, y in pairs if chosen.get(y, x) != x]
        if fitting and n >= _RIVAL * fitting and 2 * len(others) > len(best):
            raise _two_become_one(chosen[others[0][1]], *others[0])
    return best


def _pairs(a: _Spelled, b: _Spelled, cut: str, add: str) -> Iterator[tuple[str, str]]:
    for name, own in a.names.items():
        other = add + name.removeprefix(cut) if name.startswith(cut) else name
        other = other if other in b.names else name
        if other in b.names:
            yield own, b.names[other]


def _prefixes(a: _Spelled, b: _Spelled) -> Iterator[tuple[str, str]]:
    """Prefixes to cut from our names and to put there instead, none first."""
    yield "", ""
    least = min(len(a.names), len(b.names)) / 4
    for head in _heads(a.names, least):
        yield head, ""
        yield from ((head, outer) for outer in _outer(head))
    for head in _heads(b.names, least):
        yield "", head
        yield from ((outer, head) for outer in _outer(head))


def _outer(head: str) -> list[str]:
    parts = head.split(".")[:-1]
    return [".".join(parts[:n]) + "." for n in range(1, len(parts))]


def _heads(names: Mapping[str, object], least: float) -> list[str]:
    """What most names begin with, and `least` of them: up to three parts, none of which is a number."""
    count: Counter[str] = Counter()
    for name in names:
        head = ""
        for part in name.split(".")[:_HEAD_PARTS]:
            if part.isdigit() or len(head) + len(part) + 1 >= len(name):
                break
            head += part + "."
            count[head] += 1
    ordered = sorted(count.items(), key=lambda c: (-c[1], len(c[0]), c[0]))
    return [head for head, n in ordered if n >= least][:_MAX_HEADS]


def same_but_rows(ours: tuple[int, ...], theirs: tuple[int, ...]) -> bool:
    """True if two shapes may be those of one tensor: rows may differ, since vocabularies grow.

    Those of BART's `final_logits_bias` [1, V] are its second axis.
    """
    while len(ours) > 1 and ours[0] == 1 and theirs[:1] == (1,):
        ours, theirs = ours[1:], theirs[1:]
    return len(ours) == len(theirs) and ours[1:] == theirs[1:]


def _one_to_one(pairs: list[tuple[str, str]]) -> dict[str, str]:
    first: dict[str, str] = {}
    for ours, theirs in pairs:
        if theirs in first:
            raise _two_become_one(first[theirs], ours, theirs)
        first[theirs] = ours
    return {ours: theirs for theirs, ours in first.items()}


def _two_become_one(one: str, other: str, both: str) -> InvalidInputError:
    return InvalidInputError(f"{one} and {other} could both be {both}", kind=ErrorKind.INCOMPATIBLE)
