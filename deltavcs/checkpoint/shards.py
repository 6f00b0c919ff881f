"""Which files of a folder are its weights, in which order they are read, and whether they are all there.

As transformers decides it in `PreTrainedModel.from_pretrained`, diffusers for its components, and PEFT for
adapters: one file by its name before an index, and of an index whole files, in the order of their names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import PurePosixPath

from deltavcs.checkpoint.layout import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    CONFIG,
    PICKLE,
    SINGLE,
    is_other_format,
    is_pickle,
    is_safetensors,
)

DIFFUSERS_SINGLE = "diffusion_pytorch_model.safetensors"
_INDEX = re.compile(r"(?P<weights>.+\.(?:safetensors|bin|pt|pth))\.index(?:\.[\w-]+)?\.json\Z")
_SHARD = re.compile(
    r"(?P<head>.*?)(?P<part>\d{1,6})(?P<of>[-_]of[-_])(?P<total>\d{1,6})(?P<tail>(?:\.[\w-]+)*\.[A-Za-z0-9]+)\Z"
)
# What torch's distributed checkpoints hold: pieces of tensors under the names of the whole.
_PIECES = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors\Z")
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class ShardSet:
    """Files of one folder that are numbered `I-of-N`."""

    head: str
    of: str
    total: str
    tail: str
    parts: Mapping[int, tuple[str, str]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The files that are there."""
        return sorted(name for _, name in self.parts.values())

    def missing(self) -> Iterator[str]:
        """Names of the files that are not there."""
        width = max((len(text) for text, _ in self.parts.values()), default=5)
        first = 0 if 0 in self.parts else 1
        for part in range(first, first + int(self.total)):
            if part not in self.parts:
                yield f"{self.head}{part:0{width}d}{self.of}{self.total}{self.tail}"


def shard_sets(names: Sequence[str]) -> list[ShardSet]:
    """The numbered sets of weight files among the files of one folder."""
    found: dict[tuple[str, str, str, str], dict[int, tuple[str, str]]] = {}
    for name in names:
        match = _SHARD.match(name)
        if match and int(match["total"]) and (_is_weights(name)):
            key = (match["head"], match["of"], match["total"], match["tail"])
            found.setdefault(key, {})[int(match["part"])] = (match["part"], name)
    return [ShardSet(*key, parts) for key, parts in sorted(found.items())]


def _is_weights(name: str) -> bool:
    return is_safetensors(name) or is_pickle(name) or is_other_format(name)


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of one folder.

    Attributes:
        files: names of safetensors files, in the order in which they are read: of a tensor that is in
            several, the last one counts.
        index: the file that names them; None if it is their own names.
        weight_map: what the index says: tensors by name, and their files.
        problem: why they are not all there; empty if they are.
    """

    files: tuple[str, ...] = ()
    index: str | None = None
    weight_map: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True, slots=True)
class SourceFolder:
    """One folder of a source.

    Attributes:
        prefix: its path with a `/` at the end; empty for the source itself.
        names: of the files directly in it, sorted.
        paths: all files of the source.
        read_path: content of a small one.
    """

    prefix: str
    names: list[str]
    paths: Collection[str]
    read_path: Callable[[str], bytes]

    def holds(self, name: str) -> bool:
        """True if there is this file in it or below."""
        return self.prefix + name in self.paths

    def read(self, name: str) -> bytes:
        """Content of a small file."""
        return self.read_path(self.prefix + name)


def folders_of(paths: Collection[str], read: Callable[[str], bytes]) -> list[SourceFolder]:
    """Every folder with files, the source itself first."""
    names: dict[str, list[str]] = {"": []}
    for path in sorted(paths):
        at = path.rfind("/") + 1
        names.setdefault(path[:at], []).append(path[at:])
    return [SourceFolder(prefix, own, paths, read) for prefix, own in sorted(names.items())]


def weights_of(folder: SourceFolder) -> Weights:
    """The safetensors files that are the weights of a folder."""
    own = folder.names
    tensors = [n for n in own if is_safetensors(n)]
    pieces = [n for n in tensors if _PIECES.match(n)]
    if pieces:
        return Weights(problem=f"{pieces[0]} holds pieces of tensors, as a distributed checkpoint does")
    name = next(_in_order(folder), None)
    if name is not None:
        return Weights((name,)) if is_safetensors(name) else _indexed(name, folder)
    sets = shard_sets(tensors)
    whole = [s for s in sets if next(s.missing(), None) is None]
    if len(whole or sets) == 1:
        return Weights(tuple((whole or sets)[0].names), problem=_gaps(tensors))
    if len(whole) > 1:
        first, second = whole[0].names[0], whole[1].names[0]
        return Weights(
            problem=f"{first} and {second} are of two sets, and no index says which of them counts"
        )
    return Weights(tuple(tensors) if len(tensors) == 1 else (), problem=_gaps(tensors))


def _in_order(folder: SourceFolder) -> Iterator[str]:
    """The files that may hold or name the weights, the first that is there being the one."""
    own = folder.names
    asked = [_config_names(folder.read(CONFIG))] if CONFIG in own else []
    adapter = [ADAPTER_WEIGHTS, ADAPTER_WEIGHTS + ".index.json"]
    known = [SINGLE, SINGLE + ".index.json", DIFFUSERS_SINGLE + ".index.json", DIFFUSERS_SINGLE]
    names = [*(adapter if ADAPTER_CONFIG in own else ()), *asked, *known, *adapter]
    yield from (n for n in names if n in own)
    indexes = [n for n in own if (m := _INDEX.match(n)) and is_safetensors(m["weights"])]
    if len(indexes) == 1:
        yield indexes[0]


def _config_names(config: bytes) -> str:
    """`transformers_weights`: the file that a model's configuration names."""
    try:
        value = json.loads(config)["transformers_weights"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return value if isinstance(value, str) and value.endswith((".safetensors", ".index.json")) else ""


def _indexed(index: str, folder: SourceFolder) -> Weights:
    weight_map, problem = parse_index(index, folder.read(index))
    files = sorted(set(weight_map.values()))
    there = tuple(f for f in files if folder.holds(f) and is_safetensors(f))
    return Weights(there, index, weight_map, problem or _absent(index, files, folder))


def _absent(index: str, files: Iterable[str], folder: SourceFolder) -> str:
    gone = [f for f in files if not folder.holds(f)]
    verb = "is" if len(gone) == 1 else "are"
    return f"{index} names {listed(gone)}, which {verb} not there" if gone else ""


def parse_index(index: str, data: bytes) -> tuple[dict[str, str], str]:
    """Tensors by name and their files, and what is wrong with it; empty if nothing is."""
    try:
        found = json.loads(data)["weight_map"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}, f"{index} is no index of shards" if data.strip() else f"{index} is empty"
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        return {}, f"{index} is no index of shards"
    files = {v: str(PurePosixPath(v)) for v in found.values()}
    if any(v.startswith("/") or ".." in v.split("/") or v in ("", ".") for v in files.values()):
        return {}, f"{index} names a file outside of its folder"
    return {k: files[v] for k, v in found.items()}, "" if found else f"{index} names no tensors"


def problem_of_others(folder: SourceFolder) -> str:
    """Why weights that are no safetensors, such as pickles and GGUF, are not all there; empty if they are."""
    if PICKLE in folder.names:
        return ""
    for index in folder.names:
        if (found := _INDEX.match(index)) and is_pickle(found["weights"]):
            weight_map, problem = parse_index(index, folder.read(index))
            return problem or _absent(index, sorted(set(weight_map.values())), folder)
    return _gaps([n for n in folder.names if not is_safetensors(n)])


def is_index(name: str) -> bool:
    """True for an index of shards, by its name."""
    return _INDEX.match(name) is not None


def pickle_index(names: Collection[str]) -> str | None:
    """The index of pickled shards among some names; None if one file counts without it."""
    if PICKLE in names:
        return None
    return next((n for n in names if (m := _INDEX.match(n)) and is_pickle(m["weights"])), None)


def _gaps(names: Sequence[str]) -> str:
    """What is missing in the numbered sets of some files; empty if none has a gap."""
    for found in shard_sets(names):
        gone = list(islice(found.missing(), _SHOWN + 1))
        if gone:
            n, there = int(found.total), len(found.parts)
            verb = "is" if len(gone) == 1 else "are"
            return f"{listed(gone, n - there - len(gone))} {verb} missing ({there} of {n} shards are there)"
    return ""


def listed(names: Sequence[str], more: int = 0) -> str:
    """Some names in a message: `a, b, c and 4 more`."""
    hidden = max(0, len(names) - _SHOWN) + max(0, more)
    return ", ".join(names[:_SHOWN]) + (f" and {hidden} more" if hidden else "")
