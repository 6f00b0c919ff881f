"""Names on disk and names in memory, matched as transformers' `from_pretrained` matches them.

A checkpoint may spell a weight otherwise than the model in memory: with or without the prefix of the bare
model, renamed since it was saved, or in parts (one tensor an expert) that loading makes one parameter of.
transformers keeps that in its conversion mappings (`transformers.conversion_mapping`); nothing here lists
names.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from deltavcs.errors import ErrorKind, InvalidInputError, reason_of
from deltavcs.skeleton.skeleton import Shape, Skeleton, building

if TYPE_CHECKING:
    import torch


# GPT-2's constant of −10⁴, which fine-tunes of its day hold and its class forgot to list.
_ONCE_SAVED = ".attn.masked_bias"


@dataclass(frozen=True)
class WeightSource:
    """Where a parameter in memory comes from.

    Attributes:
        names: tensors on disk, in the order in which they are put together; one if it is only renamed.
        patterns: for each of them, the pattern of the conversion that it matches.
        conversion: transformers' `WeightConverter`; None if the tensor is the parameter.
    """

    names: tuple[str, ...]
    patterns: tuple[str, ...] = ()
    conversion: Any = None

    def convert(self, target: str, values: Sequence[torch.Tensor], skeleton: Skeleton) -> dict[str, Any]:
        """Put tensors of a checkpoint together as `from_pretrained` does.

        Args:
            target: name in memory, the key of this source in `WeightNames.sources`.
            values: the tensors `names`, in that order.

        Returns:
            Name in memory → `torch.Tensor`; several if one tensor on disk is several parameters.
        """
        if self.conversion is None:
            return {target: values[0]}
        conversion = copy.deepcopy(self.conversion)
        for name, pattern, value in zip(self.names, self.patterns, values, strict=True):
            conversion.add_tensor(target, name, pattern, value)
        made = conversion.convert(target, model=skeleton.model, config=skeleton.config)
        return {k: v[0] if isinstance(v, list) else v for k, v in made.items()}


@dataclass(frozen=True)
class WeightNames:
    """How the tensors of a checkpoint become the parameters of a model.

    Attributes:
        sources: name in memory → where it comes from. A conversion that makes several parameters stands under
            the first of them.
        unknown: names on disk that are nothing in the model.
    """

    sources: Mapping[str, WeightSource]
    unknown: tuple[str, ...]

    def in_memory(self) -> dict[str, str]:
        """Name on disk → name in memory of the parameter that it becomes, or becomes part of."""
        return {name: target for target, source in self.sources.items() for name in source.names}


def match_names(skeleton: Skeleton, names: Iterable[str]) -> WeightNames:
    """Match names on disk with a model's, by transformers' own conversion mapping."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key

    mapping = get_model_conversion_mapping(skeleton.model)
    renamings = [m for m in mapping if isinstance(m, WeightRenaming)]
    converters = [m for m in mapping if isinstance(m, WeightConverter)]
    by_pattern = {p: c for c in converters for p in c.source_patterns}
    state = skeleton.model.state_dict()
    parts: dict[str, list[tuple[str, str | None]]] = {}
    unknown = []
    state = skeleton.model.state_dict()
    for name in sorted(names, key=dot_natural_key):
        target, pattern = _in_memory(state, name, renamings, converters, skeleton.model.base_model_prefix)
        if target in state:
            parts.setdefault(target, []).append((name, pattern))
        else:
            unknown.append(name)
    sources = {
        target: WeightSource(
            tuple(n for n, _ in found),
            tuple(p for _, p in found if p is not None),
            by_pattern[first] if (first := found[0][1]) is not None else None,
        )
        for target, found in parts.items()
    }
    return WeightNames(sources, tuple(unknown))


def _in_memory(
    state: Mapping[str, Any], name: str, renamings: Any, converters: Any, prefix: str
) -> tuple[str, str | None]:
    from transformers.core_model_loading import rename_source_key

    found: tuple[str, str | None] = rename_source_key(name, renamings, converters, prefix, state)
    if found[0] not in state and name in state:
        found = rename_source_key(name, [], [], base_model_prefix=prefix, meta_state_dict=state)
    return found


def minded(
    skeleton: Skeleton, missing: Iterable[str], unexpected: Iterable[str]
) -> tuple[list[str], list[str]]:
    """Those of missing and unexpected names that the class of a model minds, sorted.

    A class knows what its older checkpoints hold and lack (`_keys_to_ignore_on_load_unexpected`).
    """
    unlisted = {n for n in unexpected if not n.endswith(_ONCE_SAVED)}
    told = SimpleNamespace(missing_keys=set(missing), unexpected_keys=unlisted)
    skeleton.model._adjust_missing_and_unexpected_keys(told)
    return sorted(told.missing_keys), sorted(told.unexpected_keys)


@dataclass(frozen=True)
class Fit:
    """What `from_pretrained` would say of a checkpoint, without loading it.

    Attributes:
        missing: names in memory of parameters that would be left at random values.
        unexpected: names on disk that would be left out.
        mismatched: name → shape on disk, shape in the model.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: Mapping[str, tuple[Shape, Shape]] = field(default_factory=dict)


def check_fit(skeleton: Skeleton, shapes: Mapping[str, Shape]) -> Fit:
    """Let transformers load a checkpoint whose tensors have no values, and say what does not fit.

    Args:
        shapes: name on disk → shape.

    Raises:
        InvalidInputError: `bad-checkpoint` for tensors that cannot be put together, such as experts of which
            one part is missing; names them.
    """
    import torch

    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    try:
        with building():
            _, found = type(skeleton.model).from_pretrained(
                None, config=skeleton.config, state_dict=state, device_map="meta",
                ignore_mismatched_sizes=True, output_loading_info=True,
            )  # fmt: skip
    except RuntimeError as exc:  # parts that cannot be put together
        raise InvalidInputError(_odd_parts(skeleton, state, exc), kind=ErrorKind.BAD_CHECKPOINT) from exc
    mismatched = {name: (tuple(ours), tuple(theirs)) for name, ours, theirs in found["mismatched_keys"]}
    missing, unexpected = minded(skeleton, found["missing_keys"], found["unexpected_keys"])
    return Fit(tuple(missing), tuple(unexpected), mismatched)


def _odd_parts(skeleton: Skeleton, state: Mapping[str, torch.Tensor], exc: RuntimeError) -> str:
    """Which parts of which parameter cannot be put together."""
    for target, source in match_names(skeleton, state).sources.items():
        try:
            source.convert(target, [state[n] for n in source.names], skeleton)
        except Exception as inner:  # whatever an operation of transformers says of odd shapes
            if absent := _absent(source.names):
                return f"{target} cannot be put together: the checkpoint lacks {', '.join(absent[:5])}"
            first, last = source.names[0], source.names[-1]
            return f"{target} cannot be made of {first} … {last} ({len(source.names)}): {reason_of(inner)}"
    return f"transformers cannot load the checkpoint: {reason_of(exc)}"


def _absent(names: Sequence[str]) -> list[str]:
    """What is missing among the parts of one parameter: of an expert, where another part of it is there."""
    found: dict[str, set[tuple[str, ...]]] = {}
    for name in names:
        found.setdefault(_NUMBER.sub("*", name), set()).add(tuple(_NUMBER.findall(name)))
    every = set().union(*found.values())
    return [
        _filled(pattern, numbers)
        for pattern, held in sorted(found.items())
        for numbers in sorted(every - held)
    ]


_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def _filled(pattern: str, numbers: tuple[str, ...]) -> str:
    for number in numbers:
        pattern = pattern.replace("*", number, 1)
    return pattern
