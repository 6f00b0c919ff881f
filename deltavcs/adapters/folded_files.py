"""The files of a base with an adapter folded in: its own, and the adapter's tokenizer."""

from __future__ import annotations

import json
from dataclasses import replace

from deltavcs.adapters.new_heads import NewModel
from deltavcs.checkpoint.layout import CONFIG, INDEX_SUFFIX, MAX_JSON_BYTES
from deltavcs.checkpoint.patching import resized_files
from deltavcs.checkpoint.side_files import GENERATION_CONFIG, choose_side_files
from deltavcs.checkpoint.view import View, ViewFile, data_file, replace_files, view_of
from deltavcs.objects.model import Manifest
from deltavcs.objects.store import ObjectStore


def folded_files(objects: ObjectStore, view: View, adapter: Manifest, base: Manifest, made: NewModel) -> View:
    """The view with config.json, index, tokenizer and template of the folded model.

    Args:
        view: the base's files with the tensors of the result.
    """
    if made.config is not None:
        old = next(f for f in view.files if f.path == CONFIG)
        view = replace_files(
            view, {CONFIG: replace(data_file(CONFIG, made.config), executable=old.executable)}
        )
    if view.primary.keys() != base.primary.keys():
        view = replace_files(view, _indexes(objects, view))
    if any(k in base.primary and c.shape != base.primary[k].shape for k, c in view.primary.items()):
        view = replace_files(view, resized_files(objects, view, base))
    return _with_tokenizer(view, adapter)


def _indexes(objects: ObjectStore, view: View) -> dict[str, ViewFile]:
    """Every index of shards with the tensors that there are now."""
    shards = {key: f.path for f in view.files for key in f.keys or () if key in view.primary}
    made = {}
    for file in view.files:
        if not file.path.endswith(INDEX_SUFFIX) or "/" in file.path or file.size > MAX_JSON_BYTES:
            continue
        data = file.data if file.blob is None else objects.blobs.read(file.blob, max_bytes=file.size)
        raw = json.loads(data or b"{}")
        raw["weight_map"] = shards
        raw["metadata"] = {
            **(raw.get("metadata") or {}),
            "total_size": sum(c.size for c in view.primary.values()),
        }
        made[file.path] = replace(
            data_file(file.path, json.dumps(raw, indent=2).encode() + b"\n"), executable=file.executable
        )
    return made


def _with_tokenizer(view: View, adapter: Manifest) -> View:
    theirs: dict[str, ViewFile] = {f.path: f for f in view_of(adapter).files if f.keys is None}
    choice = choose_side_files([f.path for f in view.files if f.keys is None], theirs)
    taken = {path: theirs[path] for path in choice.taken if path != GENERATION_CONFIG}
    return replace_files(view, taken, drop=[p for p in choice.dropped if p != GENERATION_CONFIG])
