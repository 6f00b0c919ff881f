"""Names on disk and names in memory, matched as transformers' `from_pretrained` matches them.

A checkpoint may spell a weight otherwise than the model in memory: with or without the prefix of the bare
model, renamed since it was saved, or in parts (one tensor an expert) that loading makes one parameter of.
transformers keeps that in its conversion mappings (`transformers.conversion_mapping`); nothing here lists
names.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deltavcs.skeleton.skeleton import Shape, Skeleton, building

if TYPE_CHECKING:
    import torch


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
    for name in sorted(names, key=dot_natural_key):
        target, pattern = _in_memory(name, renamings, converters, skeleton.model.base_model_prefix, state)
        if target in skeleton.shapes:
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
    name: str, renamings: Any, converters: Any, prefix: str, state: dict[str, Any]
) -> tuple[str, str | None]:
    from transformers.core_model_loading import rename_source_key

    found: tuple[str, str | None] = rename_source_key(name, renamings, converters, prefix, state)
    if found[0] not in state and name in state:
        found = rename_source_key(name, [], [], base_model_prefix=prefix, meta_state_dict=state)
    return found


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
    """
    import torch

    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    with building():
        _, found = type(skeleton.model).from_pretrained(
            None, config=skeleton.config, state_dict=state, device_map="meta",
            ignore_mismatched_sizes=True, output_loading_info=True,
        )  # fmt: skip
    mismatched = {name: (tuple(ours), tuple(theirs)) for name, ours, theirs in found["mismatched_keys"]}
    return Fit(tuple(sorted(found["missing_keys"])), tuple(sorted(found["unexpected_keys"])), mismatched)
