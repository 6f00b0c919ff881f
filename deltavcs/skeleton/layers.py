"""What a layer of a model does with its weight: which way round it lies, and which experts it stacks."""

from __future__ import annotations

from typing import Any

from deltavcs.skeleton.skeleton import Skeleton


def lies_transposed(skeleton: Skeleton, weight: str) -> bool | None:
    """Whether a matrix is [in, out], as in GPT-2's `Conv1D`, and not [out, in] as in `torch.nn.Linear`.

    Args:
        weight: name in memory.

    Returns:
        None if the model has no such weight.
    """
    module = skeleton.module_of(weight)
    if module is None or not hasattr(module, weight.rpartition(".")[2]):
        return None
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, Conv1D)


def stacked_transposed(skeleton: Skeleton, weight: str) -> bool:
    """Whether a stack of experts is [experts, in, out] and not [experts, out, in], as its module says."""
    return bool(getattr(skeleton.module_of(weight), "is_transposed", False))


def own_parameters(skeleton: Skeleton, module: str) -> tuple[str, ...]:
    """The parameters that a module itself holds, in its order; none if there is no such module."""
    try:
        found: Any = skeleton.model.get_submodule(module)
    except AttributeError:
        return ()
    return tuple(name for name, _ in found.named_parameters(recurse=False))
