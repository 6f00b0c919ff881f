"""Changes to the JSON files of a checkpoint whose tensors are no longer those the files speak of."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from deltavcs.checkpoint.layout import ADAPTER_CONFIG, CONFIG, INDEX_SUFFIX, MAX_JSON_BYTES, is_vocabulary
from deltavcs.checkpoint.quantisation_config import QUANTISATION_KEYS
from deltavcs.checkpoint.view import View, ViewFile, data_file
from deltavcs.checkpoint.vocabulary import added_rows, vocabulary_tensors
from deltavcs.errors import InvalidInputError
from deltavcs.objects.model import Manifest
from deltavcs.objects.store import ObjectStore
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
        return _patched(objects, view, _sized_patches(view, _resize_by_name(view, lead)))
    more = added_rows(vocabulary, {k: c.shape for k, c in view.primary.items()})

    def resize(config: dict[str, Any]) -> bool:
        for path in vocabulary.settings:
            raise_setting(config, path, vocabulary.config, more)
        return more != 0

    return _patched(objects, view, {CONFIG: resize, **_index_patches(view)})


def untied_files(objects: ObjectStore, view: View, names: Collection[str]) -> dict[str, ViewFile]:
    """config.json and the index of a view that stores tensors which the config.json ties.

    Args:
        view: with the new tensors and the config.json that it will have.
        names: in memory, of the tensors that are no longer tied.
    """
    config = config_of_view(objects, view)
    try:
        paths = how_to_untie(config, names) if config is not None else ()
    except InvalidInputError:  # no model that transformers knows
        paths = ()

    def untie(config: dict[str, Any]) -> bool:
        for path in paths:
            set_false(config, path)
        return bool(paths)

    return _patched(objects, view, {CONFIG: untie, **_index_patches(view)})


def config_of_view(objects: ObjectStore, view: View) -> bytes | None:
    """The config.json of a view; None if it has none of a sensible size."""
    found = next((f for f in view.files if f.path == CONFIG and f.keys is None), None)
    return _content(objects, found) if found is not None and found.size <= MAX_JSON_BYTES else None


def _resize_by_name(view: View, lead: Manifest) -> JsonPatch:
    """Of a model that transformers does not know: every section whose size the embedding had before."""
    old_rows = {t.shape[0] for k, t in lead.primary.items() if is_vocabulary(k) and t.shape}
    new_rows = max(c.shape[0] for k, c in view.primary.items() if is_vocabulary(k) and c.shape)

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

    return _patched(objects, view, _sized_patches(view, retype))


def adapter_config_file(objects: ObjectStore, view: View, edit: JsonPatch) -> dict[str, ViewFile]:
    """adapter_config.json after an edit, if there is one that is a JSON object."""
    return _patched(objects, view, {ADAPTER_CONFIG: edit})


def merged_adapter_files(
    objects: ObjectStore, view: View, rank: int, changes: Mapping[str, Any]
) -> dict[str, ViewFile]:
    """adapter_config.json with one rank for all modules, scale 1, and further settings that changed."""

    def rerank(config: dict[str, Any]) -> bool:
        config |= {"r": rank, "lora_alpha": rank, "use_rslora": False}
        config |= {"rank_pattern": {}, "alpha_pattern": {}, **changes}
        return True

    return adapter_config_file(objects, view, rerank)


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
    return _patched(objects, view, {folder + CONFIG: clean, **dict.fromkeys(indexes, clean_index)})


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
        if isinstance(index.get("metadata"), dict):
            index["metadata"]["total_size"] = sum(c.size for c in view.primary.values())
        if isinstance(index.get("weight_map"), dict):
            index["weight_map"] = {**shards, **index["weight_map"]}
        return True

    paths = [f.path for f in view.files if f.path.endswith(INDEX_SUFFIX) and "/" not in f.path]
    return dict.fromkeys(paths, patch_index)


def _patched(objects: ObjectStore, view: View, patches: Mapping[str, JsonPatch]) -> dict[str, ViewFile]:
    """The plain files that have a patch and are changed by it."""
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
