"""Changes to the JSON files of a checkpoint whose tensors are no longer those the files speak of."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from deltavcs.checkpoint.anatomy import Anatomy
from deltavcs.checkpoint.layout import ADAPTER_CONFIG, CONFIG, INDEX_SUFFIX, MAX_JSON_BYTES, is_vocabulary
from deltavcs.checkpoint.quantisation_config import QUANTISATION_KEYS
from deltavcs.checkpoint.view import View, ViewFile, data_file
from deltavcs.checkpoint.vocabulary_tensors import added_rows, vocabulary_tensors
from deltavcs.errors import InvalidInputError
from deltavcs.objects.model import Manifest
from deltavcs.objects.store import ObjectStore
from deltavcs.skeleton.skeleton import skeleton_of
from deltavcs.skeleton.tying import how_to_untie, set_false
from deltavcs.skeleton.vocabulary import raise_setting

JsonPatch: TypeAlias = Callable[[dict[str, Any]], bool]
"""Changes an object in place; False if it left it as it was."""


def resized_files(objects: ObjectStore, view: View, lead: Manifest) -> dict[str, ViewFile]:
    """config.json with the new vocabulary size and the index with the new total, where there are such.

    The sizes stand where the model has them, and are those that its tensors in the view need.

    Args:
        view: with its new tensors and the config.json that it will have.
        lead: what a config.json of an unknown model was written for.
    """
    config = config_of_view(objects, view)
    vocabulary = vocabulary_tensors(view.primary, config)
    if config is None or vocabulary.guessed is not None:
        return edited_files(objects, view, _sized_patches(view, _resize_by_name(view, lead)))
    more = added_rows(vocabulary, {k: c.shape for k, c in view.primary.items()})

    def resize(config: dict[str, Any]) -> bool:
        for path in vocabulary.settings:
            raise_setting(config, path, vocabulary.config, more)
        return more != 0

    return edited_files(objects, view, {CONFIG: resize, **_index_patches(view)})


def untied_files(objects: ObjectStore, view: View) -> dict[str, ViewFile]:
    """config.json and the index of a view that stores two tensors where its config.json ties them.

    Args:
        view: with its new tensors and the config.json that it will have.
    """
    config = config_of_view(objects, view)
    try:
        paths = how_to_untie(config, _parted(config, view)) if config is not None else ()
    except InvalidInputError:  # no model that transformers knows
        paths = ()

    def untie(config: dict[str, Any]) -> bool:
        for path in paths:
            set_false(config, path)
        return bool(paths)

    return edited_files(objects, view, {CONFIG: untie, **_index_patches(view)})


def _parted(config: bytes, view: View) -> list[str]:
    """Names in memory of what a configuration ties to a tensor that differs from it."""
    skeleton = skeleton_of(config)
    stored = {place: view.tensors[k] for k, place in Anatomy(skeleton).places(view.primary).of.items()}
    pairs = ((t, s) for t, s in skeleton.tied.items() if t in stored and s in stored)
    return [target for target, source in pairs if stored[target] != stored[source]]


def config_of_view(objects: ObjectStore, view: View) -> bytes | None:
    """The config.json of a view; None if it has none of a sensible size."""
    found = next((f for f in view.files if f.path == CONFIG and f.keys is None), None)
    return _content(objects, found) if found is not None and found.size <= MAX_JSON_BYTES else None


def _resize_by_name(view: View, lead: Manifest) -> JsonPatch:
    """Of a model that transformers does not know: every section whose size the embedding had before."""
    old_rows = {t.shape[0] for k, t in lead.primary.items() if is_vocabulary(k) and t.shape}
    found = (c.shape[0] for k, c in view.primary.items() if is_vocabulary(k) and c.shape)
    new_rows = max(found, default=0)

    def resize(section: dict[str, Any]) -> bool:
        size = section.get("vocab_size")
        if not isinstance(size, int) or size not in old_rows or size == new_rows:
            return False
        section["vocab_size"] = new_rows
        return True

    return resize


def retyped_files(objects: ObjectStore, view: View, dtype: str) -> dict[str, ViewFile]:
    """config.json with another dtype and the index with the new total, for a view that was converted.

    Args:
        dtype: as torch spells it, such as `bfloat16`: what `from_pretrained` loads the weights as.
    """

    def retype(section: dict[str, Any]) -> bool:
        found = [k for k in ("dtype", "torch_dtype") if isinstance(section.get(k), str)]
        changed = [k for k in found if section[k] != dtype]
        section.update(dict.fromkeys(changed, dtype))
        return bool(changed)

    return edited_files(objects, view, {**_nested_patches(view, retype), **_sized_patches(view, retype)})


def _nested_patches(view: View, patch: JsonPatch) -> dict[str, JsonPatch]:
    """The same for the components of a checkpoint, each in its folder."""

    def patch_config(config: dict[str, Any]) -> bool:
        return sum(patch(x) for x in (config, *config.values()) if isinstance(x, dict)) > 0

    patches: dict[str, JsonPatch] = {}
    for file in view.files:
        folder, nested, name = file.path.rpartition("/")
        if nested and name == CONFIG and file.keys is None:
            patches[file.path] = patch_config
        elif nested and name.endswith(INDEX_SUFFIX):
            held = (f for f in view.files if f.path.rpartition("/")[0] == folder)
            patches[file.path] = _total(sum(view.tensors[k].size for f in held for k in f.keys or ()))
    return patches


def _total(n_bytes: int) -> JsonPatch:
    def patch_index(index: dict[str, Any]) -> bool:
        if not isinstance(index.get("metadata"), dict):
            return False
        index["metadata"]["total_size"] = n_bytes
        return True

    return patch_index


def adapter_config_file(objects: ObjectStore, view: View, edit: JsonPatch) -> dict[str, ViewFile]:
    """adapter_config.json after an edit, if there is one that is a JSON object."""
    return edited_files(objects, view, {ADAPTER_CONFIG: edit})


def merged_adapter_files(
    objects: ObjectStore, view: View, rank: int, changes: Mapping[str, Any]
) -> dict[str, ViewFile]:
    """adapter_config.json with one rank for all modules, scale 1, and further settings that changed."""

    def rerank(config: dict[str, Any]) -> bool:
        config |= {"r": rank, "lora_alpha": rank, "use_rslora": False}
        config |= {"rank_pattern": {}, "alpha_pattern": {}, **changes}
        return True

    return adapter_config_file(objects, view, rerank)


def retotalled_files(objects: ObjectStore, view: View) -> dict[str, ViewFile]:
    """The index with the new total, for a view whose tensors have other dtypes than it was written for."""
    return edited_files(objects, view, _sized_patches(view, lambda _: False))


def dequantised_files(objects: ObjectStore, view: View, folder: str, dtype: str) -> dict[str, ViewFile]:
    """config.json without its quantisation, and the index without the companions, for dequantised weights.

    Args:
        view: with its new tensors.
        folder: as `Quantisation.folder`.
        dtype: as torch spells it: what the weights are now.
    """
    names = {k.rpartition("::")[2] for k in view.tensors if _folder_of(k) == folder}

    def clean(config: dict[str, Any]) -> bool:
        sections = [config, *(v for v in config.values() if isinstance(v, dict))]
        found = [(s, k) for s in sections for k in QUANTISATION_KEYS if isinstance(s.get(k), dict)]
        for section, key in found:
            del section[key]
        named = [(s, k) for s in sections for k in ("dtype", "torch_dtype") if isinstance(s.get(k), str)]
        wrong = [(s, k) for s, k in named if s[k] not in ("bfloat16", "float16", "float32", "float64")]
        for section, key in wrong:
            section[key] = dtype
        return bool(found or wrong)

    def clean_index(index: dict[str, Any]) -> bool:
        weights = index.get("weight_map")
        if isinstance(weights, dict):
            index["weight_map"] = {k: v for k, v in weights.items() if k in names}
        if isinstance(index.get("metadata"), dict):
            sizes = (c.size for k, c in view.tensors.items() if _folder_of(k) == folder)
            index["metadata"]["total_size"] = sum(sizes)
        return True

    indexes = [
        f.path
        for f in view.files
        if f.path.startswith(folder) and f.path.endswith(INDEX_SUFFIX) and "/" not in f.path[len(folder) :]
    ]
    return edited_files(objects, view, {folder + CONFIG: clean, **dict.fromkeys(indexes, clean_index)})


def _folder_of(key: str) -> str:
    path, marked, _ = key.partition("::")
    return path[: path.rfind("/") + 1] if marked else ""


def _sized_patches(view: View, patch: JsonPatch) -> dict[str, JsonPatch]:
    """A patch of the configuration and of those nested in it, and the new total for every index of shards."""

    def patch_config(config: dict[str, Any]) -> bool:
        sections = [config, *(v for v in config.values() if isinstance(v, dict))]
        return sum(patch(section) for section in sections) > 0

    return {CONFIG: patch_config, **_index_patches(view)}


def _index_patches(view: View) -> dict[str, JsonPatch]:
    """For every index of shards the new total, and where tensors are that it does not name."""
    shards = {key: f.path for f in view.files for key in f.keys or () if key in view.primary}

    def patch_index(index: dict[str, Any]) -> bool:
        before = copy.deepcopy(index)
        if isinstance(index.get("metadata"), dict):
            index["metadata"]["total_size"] = sum(c.size for c in view.primary.values())
        if isinstance(index.get("weight_map"), dict):
            index["weight_map"] = {**shards, **index["weight_map"]}
        return index != before

    paths = [f.path for f in view.files if f.path.endswith(INDEX_SUFFIX) and "/" not in f.path]
    return dict.fromkeys(paths, patch_index)


def edited_files(objects: ObjectStore, view: View, patches: Mapping[str, JsonPatch]) -> dict[str, ViewFile]:
    """The plain JSON files that have a patch and are changed by it, by path."""
    out: dict[str, ViewFile] = {}
    for file in view.files:
        patch = patches.get(file.path)
        if patch is None or file.keys is not None or file.size > MAX_JSON_BYTES:
            continue
        changed = _patch(_content(objects, file), patch)
        if changed is not None:
            out[file.path] = replace(data_file(file.path, changed), executable=file.executable)
    return out


def _content(objects: ObjectStore, file: ViewFile) -> bytes:
    if file.blob is None:
        return file.data or b""
    return objects.blobs.read(file.blob, max_bytes=file.size)


def _patch(data: bytes, patch: JsonPatch) -> bytes | None:
    """The changed file; None if it is no JSON object or has nothing to change."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not patch(value):
        return None
    try:
        return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair, which only an escape can spell
        return json.dumps(value, indent=2).encode() + b"\n"
