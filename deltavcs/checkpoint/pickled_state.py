"""The tensors in one pickled file: read without running anything, unwrapped, checked one by one."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltavcs.advice import Advice
from deltavcs.checkpoint.device import import_torch
from deltavcs.checkpoint.materialize import torch_dtypes
from deltavcs.errors import ErrorKind, InvalidInputError, reason_of

# What training loops call the model's own state in what they save: torch's tutorials, Lightning, DeepSpeed, …
_WRAPPERS = ("model_state_dict", "state_dict", "model", "module", "model_state", "network", "net")
_MAX_NESTING = 3
_FOREIGN = re.compile(
    r"GLOBAL (\S+) was not an allowed global|Unsupported (?:class|global): \w* ?(\S+)"
    r"|unsupported GLOBAL (\S+) whose module \S+ is blocked"
)
# A tensor may be a view that repeats what is stored: a few bytes of a file would fill the memory.
_MAX_REPEATED_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class PickledState:
    """The tensors of a pickled file.

    Attributes:
        tensors: by name, dense and on the CPU; some may share memory.
        wrapper: the keys that they were found under, such as `model_state_dict`; empty if none.
    """

    tensors: Mapping[str, Any]
    wrapper: str


def read_pickled(path: Path) -> PickledState:
    """Read a file through `torch.load(weights_only=True)`.

    Raises:
        InvalidInputError: `pickle-refused` if it holds other objects than tensors and plain values;
            `bad-checkpoint`, naming keys or tensors, if its tensors are not to be told from others, or are
            such that safetensors cannot hold them.
    """
    loaded = _load(path)
    wrapper: list[str] = []
    while (key := _wrapper_of(loaded, path)) is not None and len(wrapper) < _MAX_NESTING:
        wrapper.append(key)
        loaded = loaded[key]
    if not isinstance(loaded, dict) or not loaded:
        raise _bad(f"{path} holds no dictionary of tensors", Advice.SAVE_STATE)
    for name, value in loaded.items():
        problem = _problem(name, value)
        if problem is not None:
            raise _bad(f"{path}: {name!r} {problem[0]}", problem[1])
    _check_whole(path, loaded, wrapper)
    return PickledState(loaded, ".".join(wrapper))


def _load(path: Path) -> Any:
    torch = import_torch()
    try:
        with warnings.catch_warnings():
            # About dtypes that torch gives up; such tensors are refused by name.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:  # torch raises many types, all of them about the file
        text = str(exc)
        if "TorchScript" in text:
            what = "it is a TorchScript program, not a dictionary of tensors"
        elif found := _FOREIGN.search(text):
            what = f"it holds an object of {found[1] or found[2] or found[3]}, not only tensors"
        else:
            raise InvalidInputError(
                f"cannot read {path}: {_fault(path, exc)}",
                kind=ErrorKind.PICKLE_REFUSED,
                advice=Advice.ONLY_TENSORS,
            ) from exc
        raise InvalidInputError(
            f"cannot read {path}: {what}", kind=ErrorKind.PICKLE_REFUSED, advice=Advice.SAVE_STATE_DICT
        ) from exc


def _fault(path: Path, exc: Exception) -> str:
    """Why a file is none that `torch.save` has written. What torch says of it may be to run its code."""
    with path.open("rb") as file:
        start = file.read(4)
    if not start:
        return "the file is empty"
    if start == b"PK\x03\x04":
        return f"it is an archive that is truncated or not of torch ({reason_of(exc)})"
    text = str(exc)
    if text.startswith("Weights only load failed"):
        known = re.search(r"Unsupported operand \d+", text)
        return "it is no pickle of tensors" + (f" ({known[0]})" if known else "")
    return reason_of(exc)


def _wrapper_of(loaded: Any, path: Path) -> str | None:
    """The key of the model's state in what a training loop saved; None if `loaded` is the state itself.

    Raises:
        InvalidInputError: `bad-checkpoint`, naming the keys, if several might be it, or one of a name that is
            not known.
    """
    if not isinstance(loaded, dict):
        return None
    known = [k for k, v in loaded.items() if k in _WRAPPERS and _holds_state(v)]
    if _tensors_in(loaded) and not known:
        return None
    states = [k for k, v in loaded.items() if isinstance(k, str) and _tensors_in(v)]
    rivals = [k for k in states if k in known or (known and _same_model(loaded[k], loaded[known[0]]))]
    if len(known) == 1 and rivals in ([], known):
        return str(known[0])
    choices = known or states
    if not choices:
        return None
    named = ", ".join(dict.fromkeys([*choices, *rivals]))
    if len(choices) == 1 and not rivals:
        message = f"{path} holds tensors only under {named!r}, which no trainer is known to use"
        raise _bad(message, Advice.SAVE_ONE_STATE)
    raise _bad(f"{path} holds several dictionaries of tensors: {named}", Advice.SAVE_ONE_STATE)


def _tensors_in(value: Any) -> set[str]:
    """Names of tensors directly in a dictionary."""
    torch = import_torch()
    if not isinstance(value, dict):
        return set()
    return {k for k, v in value.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}


def _holds_state(value: Any) -> bool:
    """True for a dictionary of tensors, also one that is wrapped once more."""
    inner = (v for k, v in value.items() if k in _WRAPPERS) if isinstance(value, dict) else ()
    return bool(_tensors_in(value)) or any(_tensors_in(v) for v in inner)


def _same_model(one: Any, other: Any) -> bool:
    """True if two dictionaries name the same tensors for the most part: one model twice."""
    ours, theirs = _tensors_in(one), _tensors_in(other)
    return bool(ours) and len(ours & theirs) * 2 > len(ours)


def _problem(name: object, value: Any) -> tuple[str, Advice] | None:
    """Why a value cannot become a tensor of a safetensors file, and what helps."""
    torch = import_torch()
    if not isinstance(name, str):
        return "is no name of a tensor", Advice.SAVE_STATE
    if not isinstance(value, torch.Tensor):
        return "is not a tensor", Advice.SAVE_STATE
    if not name or "::" in name or name == "__metadata__":
        return "is no name that a tensor can be stored under", Advice.RENAME_TENSOR
    if value.is_quantized:
        return f"is a quantised tensor of torch ({_word(value.dtype)})", Advice.SAVE_PLAIN_TENSORS
    if value.is_nested or value.layout is not torch.strided:
        return f"is sparse or nested ({_word(value.layout)})", Advice.SAVE_PLAIN_TENSORS
    if value.is_meta:
        return "has no values (it is on the meta device)", Advice.SAVE_PLAIN_TENSORS
    if type(value) not in (torch.Tensor, torch.nn.Parameter):
        return f"is a {type(value).__name__}, no plain tensor", Advice.SAVE_PLAIN_TENSORS
    if value.dtype not in torch_dtypes():
        return f"is {_word(value.dtype)}, which safetensors cannot hold", Advice.SAVE_PLAIN_TENSORS
    n_bytes = value.numel() * value.element_size()
    if n_bytes > max(_MAX_REPEATED_BYTES, value.untyped_storage().nbytes()):
        return f"repeats a few values to {n_bytes} bytes", Advice.SAVE_PLAIN_TENSORS
    return None


def _word(value: object) -> str:
    return str(value).removeprefix("torch.")


def _check_whole(path: Path, state: Mapping[str, Any], wrapper: list[str]) -> None:
    """DeepSpeed's ZeRO-3 leaves empty tensors in the state of the module; the weights are elsewhere."""
    empty = [name for name, value in state.items() if tuple(value.shape) == (0,)]
    if empty and len(empty) * 2 > len(state):
        under = f" under {'.'.join(wrapper)}" if wrapper else ""
        raise _bad(
            f"{path} holds empty tensors{under}, such as {empty[0]}: their values lie in parts elsewhere",
            Advice.GATHER_PARTS,
        )


def _bad(message: str, advice: Advice) -> InvalidInputError:
    return InvalidInputError(message, kind=ErrorKind.BAD_CHECKPOINT, advice=advice)
