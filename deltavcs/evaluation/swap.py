"""One loaded model, many checkpoints: new weights are copied into the parameters that are there.

N candidates cost one model load. Besides the model, memory holds one tensor of the incoming checkpoint at a
time, if its values are given as functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from deltavcs.errors import ErrorKind, InvalidInputError

if TYPE_CHECKING:
    import torch

    Value = torch.Tensor | Callable[[], torch.Tensor]

# Names a PEFT adapter file spells without the adapter's name.
_PEFT_PART = re.compile(r"\.(lora_[A-Za-z_]+|modules_to_save|trainable_tokens_delta)(?=\.|$)")
_SHOWN = 5


def swap(model: Any, state: Mapping[str, Value], *, strict: bool = True) -> None:
    """Copy `state` into the model's parameters and persistent buffers, in place.

    Dtype and device stay the model's own: values are converted on the way in, exactly as a fresh load in
    that dtype would. Tied parameters are written once. Not thread-safe.

    Args:
        model: a transformers model; with PEFT adapters, only the active adapter's weights are exchanged. Its
            dtype is given to `from_pretrained`: `model.to(bfloat16)` also rounds buffers that no checkpoint
            holds (rotary frequencies), and then no swap can equal a fresh load.
        state: checkpoint name → tensor, or a function that returns it; called once, in the order of `state`,
            and dropped after copying. Names are the model's own, those without or with the model's prefix
            (`model.`), and for adapters those of an adapter file.
        strict: if False, tensors that `state` does not name keep their values.

    Raises:
        InvalidInputError: `incompatible` for unknown or missing names, another shape, or two different
            tensors for parameters that this model ties. Names are checked before anything is written, and so
            are the shapes of tensors that are not functions; after any other failure the model is a mixture.
    """
    import torch

    plan = _match_names(model, state, swap_targets(model), strict=strict)
    for name, target in plan.items():
        if isinstance(value := state[name], torch.Tensor):
            _check_shape(name, value, target)
    written: dict[int, str] = {}
    with torch.no_grad():
        for name, target in plan.items():
            given = state[name]
            value = given if isinstance(given, torch.Tensor) else given()
            _check_shape(name, value, target)
            first = written.setdefault(id(target), name)
            if first == name:
                target.copy_(value)
            elif not torch.equal(target, value.to(device=target.device, dtype=target.dtype)):
                raise _incompatible(f"{name} differs from {first}, but this model ties them")
            del value, given


def swap_targets(model: Any) -> dict[str, torch.Tensor]:
    """What a swap writes to, by name; tied names map to the same storage.

    Parameters and persistent buffers; for a PEFT model, the active adapter's only.
    """
    import torch

    everything = model.state_dict(keep_vars=True)
    state = {name: value for name, value in everything.items() if isinstance(value, torch.Tensor)}
    if not hasattr(model, "peft_config"):
        return state
    adapter = _adapter_name(model)
    return {
        name: value
        for name, value in state.items()
        if _PEFT_PART.search(name) and f".{adapter}" in name[_peft_end(name) :] + "."
    }


def find_target(model: Any, targets: Mapping[str, torch.Tensor], name: str) -> torch.Tensor | None:
    """What a checkpoint's tensor `name` is inside the model; `targets` as from `swap_targets`."""
    return next((targets[n] for n in _spellings(model, name) if n in targets), None)


def _peft_end(name: str) -> int:
    found = _PEFT_PART.search(name)
    return found.end() if found else len(name)


def _adapter_name(model: Any) -> str:
    active = model.active_adapter
    return str(active[0] if isinstance(active, list) else active)


def _match_names(
    model: Any, state: Mapping[str, Value], targets: Mapping[str, torch.Tensor], *, strict: bool
) -> dict[str, torch.Tensor]:
    """State name → tensor to write, in the order of `state`."""
    plan: dict[str, torch.Tensor] = {}
    unknown: list[str] = []
    ignored = [re.compile(p) for p in getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()]
    for name in state:
        target = find_target(model, targets, name)
        if target is not None:
            plan[name] = target
        elif not any(pattern.search(name) for pattern in ignored):
            unknown.append(name)
    if unknown:
        raise _incompatible(f"the model has no {_some(unknown)}")
    covered = {id(target) for target in plan.values()}
    missing = [name for name, target in targets.items() if id(target) not in covered]
    if strict and missing:
        raise _incompatible(f"the checkpoint lacks {_some(missing)}")
    return plan


def _spellings(model: Any, name: str) -> Iterable[str]:
    """The names a checkpoint's tensor may have inside the model, likeliest first."""
    yield name
    prefix = getattr(model, "base_model_prefix", "")
    if prefix:
        yield f"{prefix}.{name}"
        yield name.removeprefix(f"{prefix}.")
    if hasattr(model, "peft_config"):
        end = _peft_end(name)
        yield f"{name[:end]}.{_adapter_name(model)}{name[end:]}"


def _check_shape(name: str, value: torch.Tensor, target: torch.Tensor) -> None:
    # copy_ would broadcast a smaller tensor without a word.
    if value.shape != target.shape:
        raise _incompatible(f"{name} has shape {list(value.shape)}, but the model's has {list(target.shape)}")


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _incompatible(message: str) -> InvalidInputError:
    return InvalidInputError(message, kind=ErrorKind.INCOMPATIBLE)
