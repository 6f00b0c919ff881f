"""The keys of a checkpoint's tensors: which are its own, and where its files do not agree (spec §3.1)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from deltavcs.advice import Advice
from deltavcs.checkpoint.layout import tensor_key
from deltavcs.checkpoint.shards import Weights, folders_of, listed, problem_of_others, weights_of
from deltavcs.errors import ErrorKind, InvalidInputError


@dataclass(frozen=True, slots=True)
class Overlaid:
    """A tensor that several of the checkpoint's own files hold.

    Attributes:
        taken: the file whose tensor counts: the last by name, as transformers reads them.
        index: the file that the index names for it; None if it does not name the tensor.
    """

    name: str
    taken: str
    index: str | None


@dataclass(frozen=True, slots=True)
class Arrangement:
    """How the tensors of a source are called in the manifest.

    Attributes:
        keys: by file and the tensor's name in it.
        own: files that hold the checkpoint's own tensors.
        unnamed: own tensors that the index does not name.
        overlaid: own tensors that are in several files.
        unindexed: own files that are shards without an index.
        problems: what is not all there, a line for each folder.
    """

    keys: Mapping[tuple[str, str], str]
    own: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()
    overlaid: tuple[Overlaid, ...] = ()
    unindexed: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def arrange(
    tensors: Mapping[str, Sequence[str]], paths: Collection[str], read: Callable[[str], bytes]
) -> Arrangement:
    """Decide the keys of all tensors.

    Args:
        tensors: names in every safetensors file, by the path of the file.
        paths: all files.
        read: content of a small file.

    Raises:
        InvalidInputError: `bad-checkpoint` if a tensor is in two shards and no index says that these are one
            checkpoint, or if the name of an own tensor holds `::`.
    """
    problems = []
    own = Weights()
    for folder in folders_of(paths, read):
        prefix = folder.prefix
        found = weights_of(folder)
        problem = found.problem or _lacking(found, {n: tensors.get(prefix + n, ()) for n in found.files})
        if not found.files and not problem:
            problem = problem_of_others(folder)
        if problem:
            problems.append(f"{prefix}: {problem}" if prefix else problem)
        own = own if prefix else found
    holders = _holders(own, tensors)
    _check_names(own, holders)
    keys = {
        (path, name): tensor_key(path, name, primary=path in own.files and holders[name][-1] == path)
        for path, names in tensors.items()
        for name in names
    }
    return Arrangement(
        keys,
        own.files,
        tuple(n for n in holders if n not in own.weight_map) if own.index else (),
        tuple(Overlaid(n, f[-1], own.weight_map.get(n)) for n, f in holders.items() if len(f) > 1),
        own.files if len(own.files) > 1 and own.index is None else (),
        tuple(problems),
    )


def _lacking(weights: Weights, tensors: Mapping[str, Sequence[str]]) -> str:
    """What the index names and no file has; empty if there is nothing."""
    there = {name for names in tensors.values() for name in names}
    gone = [name for name in weights.weight_map if name not in there]
    if not gone:
        return ""
    what = f"tensor {gone[0]}" if len(gone) == 1 else f"{len(gone)} tensors ({listed(gone)})"
    return f"{weights.index} names {what}, which none of its files holds"


def _holders(own: Weights, tensors: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The own files that hold a tensor, by its name, in the order in which they are read."""
    holders: dict[str, list[str]] = {}
    for path in own.files:
        for name in tensors.get(path, ()):
            holders.setdefault(name, []).append(path)
    return holders


def _check_names(own: Weights, holders: Mapping[str, Sequence[str]]) -> None:
    for name, files in holders.items():
        if "::" in name:
            raise InvalidInputError(
                f"{files[0]}: tensor name {name!r} holds '::'", kind=ErrorKind.BAD_CHECKPOINT
            )
        if len(files) > 1 and own.index is None:
            raise InvalidInputError(
                f"{files[1]}: tensor {name!r} is in another shard as well",
                kind=ErrorKind.BAD_CHECKPOINT,
                advice=Advice.ONE_SHARD,
            )
