"""Pickled weights, only on request and only through `torch.load(weights_only=True)`."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from deltavcs.advice import Advice
from deltavcs.checkpoint.device import import_torch
from deltavcs.checkpoint.layout import ADAPTER_WEIGHTS, PICKLE_SUFFIXES, SINGLE, is_safetensors
from deltavcs.errors import ErrorKind, InvalidInputError, reason_of

_TRAINING_STATE = ("training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt")


def pickled_weights(path: Path, taken: Collection[str] | None = None) -> list[Path]:
    """Top-level weight files that are pickles; none if there are safetensors beside them.

    Args:
        taken: names of the files that are looked at; None for all.
    """
    if not path.is_dir():
        return [path] if path.is_file() and path.suffix in PICKLE_SUFFIXES else []
    top = sorted(p for p in path.iterdir() if (taken is None or p.name in taken) and p.is_file())
    if any(is_safetensors(p.name) for p in top):
        return []
    return [
        p
        for p in top
        if p.suffix in PICKLE_SUFFIXES
        and p.name not in _TRAINING_STATE
        and not p.name.startswith("rng_state")
    ]


def convert_pickles(
    path: Path, *, scratch: Callable[[str], Path], allowed: bool, taken: Collection[str] | None = None
) -> tuple[Path, tuple[str, ...]]:
    """Give back a directory with safetensors in place of pickled weights, and what was converted.

    A source without pickled weights is given back as it is. `scratch` makes the folder of the copy;
    `taken` is for `pickled_weights`.

    Raises:
        InvalidInputError: `pickle-refused` if there are pickled weights and `allowed` is False, or if
            they hold anything but tensors.
    """
    pickles = pickled_weights(path, taken)
    if not pickles:
        return path, ()
    if not allowed:
        raise InvalidInputError(
            f"{path} holds pickled weights ({pickles[0].name}), which can run code when they are read",
            kind=ErrorKind.PICKLE_REFUSED,
            advice=Advice.ALLOW_PICKLES,
        )
    copy = scratch("converted")
    if path.is_dir():
        _link_others(path, copy, {p.name for p in pickles} | {f"{p.name}.index.json" for p in pickles})
    weight_map: dict[str, str] = {}
    targets = {p: _target_name(p, only=len(pickles) == 1) for p in pickles}
    for pickle, target in targets.items():
        for name in _convert(pickle, copy / target):
            if name in weight_map:
                raise InvalidInputError(
                    f"{pickle}: tensor {name!r} is in another file as well", kind=ErrorKind.BAD_CHECKPOINT
                )
            weight_map[name] = target
    if len(pickles) > 1:
        index = {"metadata": {}, "weight_map": weight_map}
        (copy / (SINGLE + ".index.json")).write_text(json.dumps(index, indent=2) + "\n")
    return copy, tuple(p.name for p in pickles)


def _target_name(pickle: Path, *, only: bool) -> str:
    if only:
        return ADAPTER_WEIGHTS if pickle.name.startswith("adapter_model") else SINGLE
    return pickle.name.replace("pytorch_model", "model").removesuffix(pickle.suffix) + ".safetensors"


def _link_others(path: Path, copy: Path, converted: set[str]) -> None:
    for entry in path.iterdir():
        if entry.name not in converted and not entry.name.endswith(".bin.index.json"):
            (copy / entry.name).symlink_to(entry.absolute())


def _convert(pickle: Path, target: Path) -> list[str]:
    """Write the tensors of one file as safetensors and return their names."""
    torch = import_torch()
    from safetensors.torch import save_file

    try:
        loaded = torch.load(pickle, map_location="cpu", weights_only=True)
    except Exception as exc:  # torch raises many types, all of them about the file
        raise InvalidInputError(
            f"cannot read {pickle}: {reason_of(exc)}",
            kind=ErrorKind.PICKLE_REFUSED,
            advice=Advice.ONLY_TENSORS,
        ) from exc
    tensors = _tensors(torch, loaded, pickle)
    # Tied weights share memory, which safetensors refuses; each name gets its own bytes.
    save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, target, {"format": "pt"})
    return list(tensors)


def _tensors(torch: Any, loaded: object, pickle: Path) -> dict[str, Any]:
    for key in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not loaded:
        raise InvalidInputError(f"{pickle} holds no dictionary of tensors", kind=ErrorKind.BAD_CHECKPOINT)
    wrong = [str(k) for k, v in loaded.items() if not isinstance(k, str) or not isinstance(v, torch.Tensor)]
    if wrong:
        raise InvalidInputError(
            f"{pickle}: {wrong[0]!r} is not a tensor",
            kind=ErrorKind.BAD_CHECKPOINT,
            advice=Advice.SAVE_STATE,
        )
    return loaded
