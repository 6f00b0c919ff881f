"""What the config.json of a checkpoint says of its tensors: how a model in memory calls and ties them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from deltavcs.checkpoint.correspondence import unwrapped
from deltavcs.checkpoint.layout import CONFIG, MAX_JSON_BYTES
from deltavcs.errors import InvalidInputError
from deltavcs.objects.model import Manifest, TensorEntry
from deltavcs.objects.store import ObjectStore
from deltavcs.skeleton.skeleton import Skeleton, skeleton_of
from deltavcs.skeleton.weight_names import match_names
from deltavcs.tensors.dtypes import dtype_of, n_elements

# What `from_pretrained` passes over in every model, beside the patterns of each.
_ONCE_SAVED = (r"rotary_emb\.inv_freq", r"(^|\.)position_ids$")


def config_of(objects: ObjectStore, manifest: Manifest) -> bytes | None:
    """The config.json of a stored checkpoint; None if it has none of a sensible size."""
    found = next((f for f in manifest.files if f.path == CONFIG and f.tensors is None), None)
    if found is None or found.size > MAX_JSON_BYTES:
        return None
    return objects.blobs.read(found.blob, max_bytes=MAX_JSON_BYTES)


def anatomy_of(objects: ObjectStore, manifest: Manifest) -> Anatomy | None:
    """The anatomy of a stored checkpoint; None without a config.json that transformers can read."""
    config = config_of(objects, manifest)
    try:
        return Anatomy(skeleton_of(config)) if config is not None else None
    except InvalidInputError:
        return None


@dataclass(frozen=True)
class Places:
    """Where in a model in memory the tensors of a checkpoint go.

    Attributes:
        of: name on disk → its place: the name in memory, or for a part of a parameter that loading puts
            together from several tensors (one an expert), that name with which part it is.
        parameters: place → name in memory of its parameter, for such parts.
    """

    of: Mapping[str, str]
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class Anatomy:
    """The model that a config.json describes, as far as names go."""

    skeleton: Skeleton

    def places(self, names: Iterable[str]) -> Places:
        """Where the tensors of a checkpoint go when this model loads them.

        Names without what training wraps around a model are looked for: those it cannot load.
        """
        plain = unwrapped(names)
        matched = match_names(self.skeleton, plain)
        of: dict[str, str] = {}
        parameters: dict[str, str] = {}
        for target, source in matched.sources.items():
            if source.conversion is None:
                # A second tensor of one parameter keeps its own name: only one of them is read.
                of |= dict(zip(source.names, (target, *source.names[1:]), strict=True))
                continue
            seen: dict[str, int] = {}
            for name, pattern in zip(source.names, source.patterns, strict=True):
                seen[pattern] = seen.get(pattern, 0) + 1
                of[name] = f"{target} {pattern} {seen[pattern]}"
                parameters[of[name]] = target
        return Places({plain[name]: place for name, place in of.items()}, parameters)

    def tied_groups(self) -> list[tuple[str, ...]]:
        """Names in memory that are one parameter, the one that is usually saved first."""
        groups: dict[str, list[str]] = {}
        for target, source in self.skeleton.tied.items():
            groups.setdefault(source, [source]).append(target)
        return [tuple(group) for group in groups.values()]

    def ignores(self, name: str, in_memory: str, tensor: TensorEntry) -> bool:
        """True for a tensor that a model does without: transformers leaves it out when it loads a checkpoint.

        Such are buffers that a family once saved and computes today, counters, and constants.

        Args:
            name: on disk.
            in_memory: where `places` puts it; the same name if nowhere.
        """
        model, buffers = self.skeleton.model, self.skeleton.buffers
        if in_memory in self.skeleton.shapes:
            patterns = model._keys_to_ignore_on_load_missing or ()
            counts = not dtype_of(tensor.dtype).arithmetic
            return in_memory in buffers and (counts or _any(patterns, in_memory))
        if n_elements(tensor.shape) == 1 or not dtype_of(tensor.dtype).arithmetic:
            return True
        patterns = {*(model._keys_to_ignore_on_load_unexpected or ()), *_ONCE_SAVED}
        return in_memory in buffers or _any(patterns, name) or _any(patterns, in_memory)


def _any(patterns: Iterable[str], name: str) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)
