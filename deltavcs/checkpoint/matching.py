"""Which tensor of a checkpoint is which of another, where transformers may have renamed them as well.

A family's names change from one version of transformers to the next (`language_model.model.` became
`model.language_model.`), and one file of weights may follow either. What both become in memory is the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from deltavcs.checkpoint.correspondence import Correspondence, Shaped, correspond, unwrapped
from deltavcs.checkpoint.layout import CONFIG, MAX_JSON_BYTES
from deltavcs.checkpoint.source import SourceCheckpoint
from deltavcs.checkpoint.view import View
from deltavcs.errors import InvalidInputError, MissingDependencyError
from deltavcs.objects.model import Manifest
from deltavcs.objects.store import ObjectStore


@dataclass(frozen=True, slots=True)
class Matchable:
    """A checkpoint's own tensors, and a way to its config.json, which is read only where names differ."""

    tensors: Mapping[str, Shaped]
    config: Callable[[], bytes | None]


def of_manifest(objects: ObjectStore, manifest: Manifest) -> Matchable:
    """What is stored."""

    def read() -> bytes | None:
        found = next((f for f in manifest.files if f.path == CONFIG and f.tensors is None), None)
        return None if found is None else bytes(objects.blobs.read(found.blob, max_bytes=MAX_JSON_BYTES))

    return Matchable(manifest.primary, read)


def of_source(source: SourceCheckpoint) -> Matchable:
    """What lies on disk."""
    return Matchable(
        {k: t for k, t in source.tensors.items() if "::" not in k}, lambda: source.read_small(CONFIG)
    )


def of_view(objects: ObjectStore, view: View) -> Matchable:
    """What is stored or computed."""

    def read() -> bytes | None:
        found = next((f for f in view.files if f.path == CONFIG and f.keys is None), None)
        if found is None or found.blob is None:
            return None if found is None else found.data
        return bytes(objects.blobs.read(found.blob, max_bytes=MAX_JSON_BYTES))

    return Matchable(view.primary, read)


def match(ours: Matchable, theirs: Matchable) -> Correspondence:
    """Match the tensors of two checkpoints: by name, by prefix, and as transformers spells them in memory.

    Raises:
        InvalidInputError: `incompatible` if two tensors of one checkpoint would be the same one of the other.
    """
    found = correspond(ours.tensors, theirs.tensors)
    if not _may_be_renamed(found, ours, theirs):
        return found
    our_spelling, their_spelling = _in_memory(ours), _in_memory(theirs)
    if not our_spelling and not their_spelling:
        return found
    again = correspond(ours.tensors, theirs.tensors, our_spelling=our_spelling, their_spelling=their_spelling)
    return again if len(again.names) > len(found.names) else found


def respelled(manifest: Manifest, found: Correspondence) -> Manifest:
    """A manifest whose own tensors have our names; those that we lack keep theirs, unless we have the name.

    Args:
        manifest: theirs.
        found: our names to theirs.
    """
    if not found.renamed:
        return manifest
    ours = {own: manifest.tensors[their] for own, their in found.names.items()}
    taken = set(found.names.values())
    rest = {k: t for k, t in manifest.tensors.items() if k not in taken and k not in ours}
    return Manifest(manifest.files, {**ours, **rest})


def _may_be_renamed(found: Correspondence, ours: Matchable, theirs: Matchable) -> bool:
    """True if among what is left over there are tensors of the same shape."""
    left = Counter(ours.tensors[k].shape for k in found.only_ours)
    return bool(left & Counter(theirs.tensors[k].shape for k in found.only_theirs))


def _in_memory(checkpoint: Matchable) -> Mapping[str, str]:
    """Name → name in memory; empty where transformers does not know the model."""
    config = checkpoint.config()
    return {} if config is None else _spelling(config, tuple(sorted(checkpoint.tensors)))


@lru_cache(maxsize=16)
def _spelling(config: bytes, names: tuple[str, ...]) -> Mapping[str, str]:
    from deltavcs.skeleton.skeleton import build_skeleton
    from deltavcs.skeleton.weight_names import match_names

    plain = unwrapped(names)
    try:
        sources = match_names(build_skeleton(config), plain).sources
    except (InvalidInputError, MissingDependencyError):
        return {}
    found = {name: spelled for spelled, name in plain.items()}
    for target, source in sources.items():
        for i, name in enumerate(source.names):
            # A tensor that becomes a part of a parameter keeps its place in it.
            found[plain[name]] = target if len(source.names) == 1 else f"{target}.{i}"
    return found
