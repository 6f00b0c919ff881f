"""Pickled weights, only on request and only through `torch.load(weights_only=True)`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from deltavcs.advice import Advice
from deltavcs.checkpoint.layout import (
    ADAPTER_WEIGHTS,
    CONFIG,
    MAX_JSON_BYTES,
    PICKLE,
    PICKLE_SUFFIXES,
    SINGLE,
    is_other_format,
    is_safetensors,
)
from deltavcs.checkpoint.pickled_state import read_pickled
from deltavcs.errors import ErrorKind, InvalidInputError, MissingDependencyError
from deltavcs.storage import FileReader

# State of a training run and not of the model: of Trainer, accelerate and DeepSpeed.
_TRAINING_STATE = re.compile(
    r"(training_args|custom_checkpoint_|dl_state_dict|rng_state|random_states|latest)"
    r"|(optimizer|scheduler|lr_scheduler|scaler|sampler)(_\d+)?\.|.*_optim_states\."
)
# The names that the libraries load weights under; other pickles beside them are no part of the model.
_USUAL = re.compile(
    r"(adapter_model|(diffusion_)?pytorch_model|model|consolidated(\.\d+)?)(-\d+-of-\d+)?\.(bin|pt|pth)\Z"
)


def pickled_weights(path: Path, taken: Collection[str] | None = None) -> list[Path]:
    """Top-level weight files that are pickles; none if there are safetensors beside them.

    Args:
        taken: names of the files that are looked at; None for all.
    """
    if not path.is_dir():
        is_one = path.suffix in PICKLE_SUFFIXES and not is_other_format(path.name)
        return [path] if is_one and path.is_file() else []
    top = sorted(p for p in path.iterdir() if (taken is None or p.name in taken) and p.is_file())
    if any(is_safetensors(p.name) for p in top):
        return []
    found = [p for p in top if p.suffix in PICKLE_SUFFIXES and not is_other_format(p.name)]
    found = [p for p in found if not _TRAINING_STATE.match(p.name)]
    usual = [p for p in found if _USUAL.match(p.name)] or found
    if any(p.name == PICKLE for p in usual):
        # transformers reads it alone, whatever shards lie beside it.
        usual = [p for p in usual if p.name == PICKLE or p.name.startswith("adapter_model")]
    return usual


def convert_pickles(
    path: Path, *, scratch: Callable[[str], Path], allowed: bool, taken: Collection[str] | None = None
) -> tuple[Path, Mapping[str, str]]:
    """Give back a directory with safetensors in place of pickled weights, and what was converted.

    By name of each file the key that its tensors were found under, such as `model_state_dict`; empty if they
    were not wrapped.

    A source without pickled weights is given back as it is. `scratch` makes the folder of the copy;
    `taken` is for `pickled_weights`.

    Raises:
        InvalidInputError: `pickle-refused` if there are pickled weights and `allowed` is False, or if
            they hold objects; `bad-checkpoint`, by name, for what safetensors cannot hold.
    """
    pickles = pickled_weights(path, taken)
    if not pickles:
        return path, {}
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
    config = _config(path)
    wrappers: dict[str, str] = {}
    for pickle in pickles:
        target = _target_name(pickle, only=len(pickles) == 1)
        names, wrappers[pickle.name] = _convert(pickle, copy / target, config)
        for name in () if target == ADAPTER_WEIGHTS else names:
            if name in weight_map:
                raise InvalidInputError(
                    f"{pickle}: tensor {name!r} is in another file as well",
                    kind=ErrorKind.BAD_CHECKPOINT,
                    advice=Advice.ONE_PICKLE,
                    facts={"path": pickle.name},
                )
            weight_map[name] = target
    if len(set(weight_map.values())) > 1:
        index = {"metadata": {}, "weight_map": weight_map}
        (copy / (SINGLE + ".index.json")).write_text(json.dumps(index, indent=2) + "\n")
    return copy, wrappers


def _config(path: Path) -> bytes | None:
    """The config.json of a directory, if it is of a size to read."""
    file = path / CONFIG
    if not path.is_dir() or not file.is_file() or file.stat().st_size > MAX_JSON_BYTES:
        return None
    with FileReader(file) as opened:
        return bytes(opened.read(0, opened.size))


def _target_name(pickle: Path, *, only: bool) -> str:
    if pickle.name.startswith("adapter_model"):
        return ADAPTER_WEIGHTS
    if only:
        return SINGLE
    return pickle.name.replace("pytorch_model", "model").removesuffix(pickle.suffix) + ".safetensors"


def _link_others(path: Path, copy: Path, converted: set[str]) -> None:
    for entry in path.iterdir():
        if entry.name not in converted and not entry.name.endswith(".bin.index.json"):
            (copy / entry.name).symlink_to(entry.absolute())


def _convert(pickle: Path, target: Path, config: bytes | None) -> tuple[list[str], str]:
    """Write the tensors of one file as safetensors; their names, and what they were wrapped in."""
    from safetensors.torch import save_file

    state = read_pickled(pickle)
    tied = _tied_twins(state.tensors, config) if config is not None else frozenset()
    # What shares memory, safetensors refuses; each name that stays gets its own bytes.
    kept = {k: v for k, v in state.tensors.items() if k not in tied}
    plain = {k: v.detach().resolve_conj().resolve_neg().contiguous().clone() for k, v in kept.items()}
    save_file(plain, target, {"format": "pt"})
    return list(plain), state.wrapper


def _tied_twins(tensors: Mapping[str, Any], config: bytes) -> frozenset[str]:
    """Names that `save_pretrained` would leave out: the model ties them to another that shares their memory.

    None where transformers does not know the model: every name is then kept.
    """
    places: dict[object, list[str]] = {}
    for name, value in tensors.items():
        if value.numel():
            places.setdefault((value.data_ptr(), value.dtype, value.shape, value.stride()), []).append(name)
    shared = {name: names for names in places.values() if len(names) > 1 for name in names}
    if not shared:
        return frozenset()
    from deltavcs.skeleton.skeleton import build_skeleton
    from deltavcs.skeleton.weight_names import match_names

    try:
        skeleton = build_skeleton(config)
    except (InvalidInputError, MissingDependencyError):  # a model that transformers does not know
        return frozenset()
    in_memory = match_names(skeleton, shared).in_memory()
    return frozenset(
        name
        for name, twins in shared.items()
        if (source := skeleton.tied.get(in_memory.get(name, ""))) is not None
        and any(in_memory.get(twin) == source for twin in twins)
    )
