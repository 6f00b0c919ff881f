"""The plain files of a transfer: whose tokenizer, whose configuration, and where the two models' differ."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from deltavcs.advice import Advice
from deltavcs.brief import brief
from deltavcs.checkpoint.config_differences import (
    ConfigDifference,
    JsonObject,
    carry_token_ids,
    config_differences,
    with_dtypes_of,
)
from deltavcs.checkpoint.layout import CONFIG, MAX_JSON_BYTES
from deltavcs.checkpoint.patching import edited_files
from deltavcs.checkpoint.side_files import GENERATION_CONFIG, SideChoice, choose_side_files
from deltavcs.checkpoint.view import View, ViewFile, data_file, replace_files
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import FileEntry, Manifest
from deltavcs.objects.store import ObjectStore

CONFIGS = ("target", "finetune")
_SHAPING = re.compile(r"(?:_size|_dim|_layers?|_heads|_experts|_channels)\Z|\A(?:n_|d_|num_)")


@dataclass(frozen=True, slots=True)
class CarriedFiles:
    """What the plain files of a transfer are made of.

    Attributes:
        config: whose `config.json` it has: `target` or `finetune`.
        differences: settings that the two do not share.
        side: whose tokenizer, processor and generation files.
    """

    config: str
    differences: tuple[ConfigDifference, ...]
    side: SideChoice

    __repr__ = brief


def carry_files(
    objects: ObjectStore, view: View, target: Manifest, finetune: Manifest, source: Manifest, *, config: str
) -> tuple[View, CarriedFiles]:
    """The view of a transfer with the plain files that belong to it.

    Tokenizer, processor and generation files come from the fine-tune, each as a set, if it has them. The
    configuration is the one that `config` says; the target's gets the fine-tune's ids of tokens: all of them
    where the tokenizer is the fine-tune's, else those that it changed against its base.

    Args:
        view: with its tensors, and the target's files.
        config: `target` or `finetune`.

    Raises:
        InvalidInputError: `incompatible` if the fine-tune has no configuration, or one of other tensors.
    """
    side = choose_side_files(_plain(target), _plain(finetune))
    theirs = {f.path: f for f in finetune.files if f.tensors is None}
    taken = {
        p: ViewFile(p, theirs[p].size, theirs[p].blob, None, None, theirs[p].executable) for p in side.taken
    }
    view = replace_files(view, taken, drop=side.dropped)
    tables = {
        path: tuple(_json(objects, m, path) for m in (target, finetune, source)) for path in _configs(view)
    }
    if config == "finetune":
        view = _with_finetune_configs(view, finetune, tables)
    view = _with_token_ids(objects, view, side, tables)
    differences: list[ConfigDifference] = []
    made = {f.path: f for f in view.files}
    for path, (m_t, tuned, m_s) in tables.items():
        if m_t is not None and tuned is not None:
            written = _parsed(_content(objects, made[path])) or {}
            differences += config_differences(path, m_t, tuned, m_s or {}, written)
    return view, CarriedFiles(config, tuple(differences), side)


def check_config(objects: ObjectStore, view: View, target: Manifest) -> None:
    """Refuse a configuration, taken from a fine-tune, of other tensors than the result's.

    It is held against the tensors as `from_pretrained` would, without weights; for a type that transformers
    does not know, settings that speak of sizes must be the target's.

    Raises:
        InvalidInputError: `incompatible`, naming the tensor or the setting.
    """
    for file in view.files:
        if file.keys is None and file.path.rpartition("/")[2] == CONFIG:
            ours, theirs = _bytes(objects, target, file.path), _content(objects, file)
            expected = _misfits(view, ours) if file.path == CONFIG else ""
            if isinstance(expected, str):
                _check_sizes(file.path, ours, theirs)
                continue
            found = _misfits(view, theirs)
            if isinstance(found, str) or found - expected:
                raise _contradiction(file.path, found if isinstance(found, str) else min(found - expected))


def _check_sizes(path: str, target: bytes, finetune: bytes) -> None:
    ours, theirs = _parsed(target) or {}, _parsed(finetune) or {}
    for one in config_differences(path, ours, theirs, {}, theirs):
        if _SHAPING.search(one.key.rpartition(".")[2]):
            raise _contradiction(path, f"{one.key} is {one.finetune}, and {one.target} in the target's")


def _misfits(view: View, config: bytes) -> set[str] | str:
    """What does not fit between the tensors and the model of a configuration; why it has no such model."""
    from deltavcs.skeleton.skeleton import build_skeleton
    from deltavcs.skeleton.weight_names import check_fit

    try:
        fit = check_fit(build_skeleton(config), {k: c.shape for k, c in view.primary.items()})
    except InvalidInputError as exc:
        return exc.message
    shapes = (f"{k} is {list(has)}, and {list(wants)} by it" for k, (has, wants) in fit.mismatched.items())
    missing = (f"{k} is missing" for k in fit.missing)
    return {*shapes, *missing, *(f"it has no {k}" for k in fit.unexpected)}


def _contradiction(path: str, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"the fine-tune's {path} does not describe the tensors of the result: {why}",
        kind=ErrorKind.INCOMPATIBLE,
        advice=Advice.KEEP_TARGET_CONFIG,
    )


def _with_finetune_configs(
    view: View, finetune: Manifest, tables: Mapping[str, tuple[JsonObject | None, ...]]
) -> View:
    entries = {f.path: f for f in finetune.files if f.tensors is None}
    found: dict[str, ViewFile] = {}
    for path, (target, tuned, _) in tables.items():
        if tuned is None:
            continue
        entry, made = entries[path], with_dtypes_of(tuned, target or tuned)
        if made == tuned:
            found[path] = ViewFile(path, entry.size, entry.blob, None, None, entry.executable)
        else:
            text = json.dumps(made, indent=2, ensure_ascii=True) + "\n"
            found[path] = replace(data_file(path, text.encode()), executable=entry.executable)
    if not found or (CONFIG in tables and CONFIG not in found):
        raise InvalidInputError(
            "the fine-tune has no readable config.json",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.KEEP_TARGET_CONFIG,
        )
    return replace_files(view, found)


def _with_token_ids(
    objects: ObjectStore, view: View, side: SideChoice, tables: Mapping[str, tuple[JsonObject | None, ...]]
) -> View:
    _, tuned, m_s = tables.get(CONFIG, (None, None, None))
    if tuned is None:
        return view
    before = None if side.follows else m_s or {}

    def carry(section: dict[str, Any]) -> bool:
        return carry_token_ids(section, tuned, before)

    patches = {CONFIG: carry}
    if GENERATION_CONFIG not in side.taken:
        ids = {k: v for k, v in tuned.items() if k.endswith("_token_id")}
        old = {k: v for k, v in (m_s or {}).items() if k in ids}
        patches[GENERATION_CONFIG] = lambda section: carry_token_ids(
            section, {**section, **{k: v for k, v in ids.items() if v != old.get(k)}}, None
        )
    return replace_files(view, edited_files(objects, view, patches))


def _plain(manifest: Manifest) -> list[str]:
    return [f.path for f in manifest.files if f.tensors is None]


def _configs(view: View) -> list[str]:
    """The configurations of a checkpoint and of its components."""
    return [f.path for f in view.files if f.keys is None and f.path.rpartition("/")[2] == CONFIG]


def _json(objects: ObjectStore, manifest: Manifest, path: str) -> JsonObject | None:
    data = _bytes(objects, manifest, path)
    return _parsed(data) if data else None


def _bytes(objects: ObjectStore, manifest: Manifest, path: str) -> bytes:
    found = next((f for f in manifest.files if f.path == path and f.tensors is None), None)
    return _content(objects, found) if found is not None else b""


def _content(objects: ObjectStore, file: ViewFile | FileEntry) -> bytes:
    if file.size > MAX_JSON_BYTES:
        return b""
    if file.blob is None:
        return (file.data or b"") if isinstance(file, ViewFile) else b""
    return objects.blobs.read(file.blob, max_bytes=file.size)


def _parsed(data: bytes) -> JsonObject | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
