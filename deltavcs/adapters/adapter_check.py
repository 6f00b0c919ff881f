"""What can be told of an adapter before it is stored: that it is all there, and that it fits its base."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from deltavcs.adapters.adapter_config import LORA, TOKENS, AdapterConfig
from deltavcs.adapters.adapter_keys import AdapterKey, Part, plain_name
from deltavcs.adapters.adapter_match import match_adapter
from deltavcs.adapters.base_weights import BaseWeights
from deltavcs.adapters.factors import group_tensors
from deltavcs.advice import Advice
from deltavcs.checkpoint.elements import read_elements
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import Manifest, TensorEntry
from deltavcs.objects.store import ObjectStore
from deltavcs.tensors.dtypes import dtype_of, n_elements

_PART = 1 << 20
# Settings by which an adapter has layers that its base lacks, or factors of other sizes.
_RESHAPING = frozenset({"layer_replication", "use_bdlora"})


def check_complete(tensors: Mapping[str, TensorEntry]) -> None:
    """Refuse an adapter that holds nothing, or factors without elements.

    Raises:
        InvalidInputError: `bad-checkpoint`.
    """
    if not tensors:
        raise InvalidInputError(
            "the adapter holds no tensors", kind=ErrorKind.BAD_CHECKPOINT, advice=Advice.SAVE_ADAPTER_AGAIN
        )
    empty = [name for name, entry in tensors.items() if not prod(entry.shape)]
    if empty:
        raise InvalidInputError(
            f"{empty[0]} has the shape {list(tensors[empty[0]].shape)}, no elements: the adapter was saved"
            " without gathering what DeepSpeed ZeRO-3 or FSDP had spread over its processes",
            kind=ErrorKind.BAD_CHECKPOINT,
            advice=Advice.SAVE_ADAPTER_AGAIN,
        )


def check_fits_base(
    config: AdapterConfig, tensors: Mapping[str, TensorEntry], base: BaseWeights, *, quantised: bool
) -> tuple[str, ...]:
    """Refuse an adapter that is not of a base, as far as its type says.

    Args:
        quantised: the base's tensors are no weights, and have other shapes and names.

    Returns:
        Why it cannot be folded, if it cannot; clauses.

    Raises:
        InvalidInputError: `incompatible`.
    """
    why = config.why_not_folded
    notes = (why,) if why is not None else ()
    if config.peft_type not in (LORA, TOKENS) or not _RESHAPING.isdisjoint(config.beyond):
        _check_modules(config, tensors, base)
        return notes
    if quantised:
        return notes
    if _fits_by_name(config, tensors, base):
        return notes
    found = match_adapter(config, tensors, base)
    return notes or tuple(found.problems[:1])


def _fits_by_name(config: AdapterConfig, tensors: Mapping[str, TensorEntry], base: BaseWeights) -> bool:
    """Whether an adapter fits beyond doubt: plain factors of matrices that the base has under these names.

    What model it is tells nothing more then, and asking would take seconds.
    """
    grouped = group_tensors(tensors)
    plain = all(key.part is Part.MAGNITUDE for key in grouped.extras)
    if not plain or grouped.whole or grouped.other or config.target_parameters:
        return False
    modules = [AdapterKey(m, Part.A).plain_module for m in grouped.modules()]
    if not modules or not all(f"{m}.weight" in base.entries for m in modules):
        return False
    try:
        return not match_adapter(config, tensors, base.by_name()).problems
    except InvalidInputError:
        return False


def nonfinite_tensors(objects: ObjectStore, adapter: Manifest) -> tuple[str, ...]:
    """Tensors of a stored adapter that hold NaN or Inf."""
    return tuple(name for name, entry in adapter.primary.items() if _is_nonfinite(objects, entry))


def _is_nonfinite(objects: ObjectStore, entry: TensorEntry) -> bool:
    if not dtype_of(entry.dtype).arithmetic:
        return False
    count = n_elements(entry.shape)
    parts = (read_elements(objects, entry, at, min(_PART, count - at)) for at in range(0, count, _PART))
    return not all(np.isfinite(part).all() for part in parts)


def names_modules(config: AdapterConfig, tensors: Mapping[str, TensorEntry]) -> bool:
    """Whether the tensors of an adapter are called after modules of its base; those of a prompt are not."""
    return config.peft_type in (LORA, TOKENS) or any(plain_name(name) != name for name in tensors)


def _check_modules(config: AdapterConfig, tensors: Mapping[str, TensorEntry], base: BaseWeights) -> None:
    """Refuse an adapter of another type than LoRA if nothing of it is called after a module of the base."""
    if not names_modules(config, tensors):
        return
    names = [plain_name(name) for name in tensors]
    paths = {name: [f"{p}.weight" for p in _above(name)] for name in names}
    base.learn([path for of_one in paths.values() for path in of_one])
    holders = {f"{name.rpartition('.')[0]}." for name in names if "." in name}
    known = any(_has(base, path) for of_one in paths.values() for path in of_one)
    if not known and not any(key.startswith(h) for key in _all_names(base) for h in holders):
        raise InvalidInputError(
            f"the base has no module that the adapter ({config.peft_type}) changes, such as"
            f" {names[0].rpartition('.')[0] or names[0]}",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.CHECK_BASE,
        )


def _all_names(base: BaseWeights) -> list[str]:
    """Every name of a weight of a base, on disk and in memory."""
    return [*base.entries, *(base.skeleton.shapes if base.skeleton is not None else ())]


def _has(base: BaseWeights, name: str) -> bool:
    return name in base.entries or base.memory_name(name) is not None


def _above(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(len(parts) - 1, 0, -1)]
