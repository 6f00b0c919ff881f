"""Weights beside a checkpoint's own: the components of a pipeline, the dense layers of a sentence encoder.

A component is what one safetensors file of a folder holds, however it is cut into shards: `unet/model` for
`unet/model-00001-of-00002.safetensors`. The checkpoint's own tensors are the component without a name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from deltavcs.checkpoint.view import View
from deltavcs.objects.model import FileEntry, Manifest

_SHARD = re.compile(r"-\d{5}-of-\d{5}")
_OTHER_WEIGHTS = re.compile(
    r".+\.(?:bin|pt|pth|ckpt|h5|msgpack|gguf|ggml|onnx|onnx_data|tflite|nemo|pdparams|mlmodel|npz)\Z"
)
# Saved by trainers beside the weights; no weights of the model.
_STATE = re.compile(
    r"(?:training_args|optimizer|scheduler|scaler|rng_state|random_states|sampler|dataloader)[\w.-]*\Z"
)


def component_of(key: str) -> str:
    """The component of a tensor by its key in a manifest; `` for the checkpoint's own."""
    path, apart, _ = key.partition("::")
    return _stem(path) if apart else ""


def own_name(key: str) -> str:
    """The name that a tensor has in its file, by its key in a manifest."""
    return key.partition("::")[2] or key


def _stem(path: str) -> str:
    return _SHARD.sub("", path.removesuffix(".safetensors"))


def is_other_weights(path: str) -> bool:
    """True for files of weights that are not safetensors: pickles, GGUF, ONNX, TensorFlow, Flax."""
    name = PurePosixPath(path).name
    return _OTHER_WEIGHTS.match(name) is not None and not _STATE.match(name)


@dataclass(frozen=True, slots=True)
class Components:
    """The components of a leading checkpoint in another one.

    Attributes:
        names: key of the leading one → key of the same tensor in the other, outside the checkpoint's own.
        lacking: components of the leading one that the other does not have.
        unknown: components of the other that the leading one does not have.
    """

    names: Mapping[str, str]
    lacking: tuple[str, ...]
    unknown: tuple[str, ...]


def match_components(lead: Manifest | View, other: Manifest | View) -> Components:
    """Find the components of one checkpoint in another, by folder and name, and their tensors by name.

    Where a folder holds one component in each, it is the same one by whatever name, such as
    `model.fp16.safetensors` for `model.safetensors`.
    """
    ours, theirs = _tables(lead), _tables(other)
    if "" in ours and "" not in theirs:
        _name_own(ours, lead)
    elif "" in theirs and "" not in ours:
        _name_own(theirs, other)
    names: dict[str, str] = {}
    used = set()
    lacking = []
    mine_alone, theirs_alone = _alone(ours), _alone(theirs)
    for component, keys in ours.items():
        found = component
        if component not in theirs and mine_alone.get(_folder(component)) == component:
            found = theirs_alone.get(_folder(component), component)
        if found not in theirs:
            lacking.append(component)
            continue
        used.add(found)
        if component or found:
            names |= {key: theirs[found].get(name, f"{found}::{name}") for name, key in keys.items()}
    return Components(names, tuple(sorted(lacking)), tuple(sorted(theirs.keys() - used)))


def _tables(manifest: Manifest | View) -> dict[str, dict[str, str]]:
    """Per component the key of every tensor by its own name."""
    tables: dict[str, dict[str, str]] = {}
    for key in manifest.tensors:
        tables.setdefault(component_of(key), {})[own_name(key)] = key
    return tables


def _name_own(tables: dict[str, dict[str, str]], manifest: Manifest | View) -> None:
    """Call a checkpoint's own tensors after their file, where the other one has none of its own."""
    held = ((f.path, f.tensors if isinstance(f, FileEntry) else f.keys) for f in manifest.files)
    stems = {_stem(path) for path, keys in held if keys and "::" not in keys[0]}
    if len(stems) == 1:
        tables[stems.pop()] = tables.pop("")


def _alone(tables: Mapping[str, object]) -> dict[str, str]:
    """By folder its component, where it holds one."""
    counts = Counter(_folder(c) for c in tables if c)
    return {_folder(c): c for c in tables if c and counts[_folder(c)] == 1}


def _folder(component: str) -> str:
    """The folder of a component; what lies at the top has its whole name."""
    return component.rpartition("/")[0] or component


def weights_apart(manifests: Sequence[Manifest], components: Iterable[Components]) -> tuple[str, ...]:
    """What takes no part when checkpoints are combined: components that one lacks, files of other formats.

    Args:
        manifests: the first leads.
        components: of every other one.
    """
    found: dict[str, None] = {}
    for one in components:
        kept = (f"{c or 'its own tensors'} (kept as it is: not in all of them)" for c in one.lacking)
        left = (f"{c or 'own tensors'} (left out: only in another one)" for c in one.unknown)
        found.update(dict.fromkeys([*kept, *left]))
    others = [f.path for f in manifests[0].files if f.tensors is None and is_other_weights(f.path)]
    found.update(dict.fromkeys(f"{path} (kept as it is: not safetensors)" for path in others))
    return tuple(found)
