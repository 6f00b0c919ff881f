"""What makes two checkpoints one architecture: the settings and shapes that a forward pass depends on."""

from __future__ import annotations

import json
from typing import Any

from deltavcs.checkpoint import layout as names
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import Manifest
from deltavcs.objects.store import ObjectStore
from deltavcs.oid import hash_bytes

# Settings that no forward pass depends on; two models that differ in nothing else are one architecture.
_COSMETIC = frozenset(
    "_name_or_path _commit_hash transformers_version use_cache bos_token_id eos_token_id pad_token_id"
    " id2label label2id task_specific_params".split()
)
# Settings of an adapter that what it computes does not depend on, and those whose order says nothing.
_COSMETIC_TO_ADAPTERS = frozenset(
    "base_model_name_or_path revision auto_mapping inference_mode peft_version".split()
)
_ANY_ORDER = frozenset("target_modules modules_to_save exclude_modules target_parameters".split())


def whole_keys(objects: ObjectStore, manifest: Manifest) -> tuple[str, str]:
    """Group and model key of a whole checkpoint.

    Raises:
        InvalidInputError: `bad-checkpoint` without a readable config.json.
    """
    config = _config(objects, manifest)
    group = architecture_digest([config.get("model_type"), tensor_shapes(manifest)])
    dtypes = sorted({t.dtype for t in manifest.primary.values()})
    settings = {k: v for k, v in config.items() if k not in _COSMETIC}
    return group, architecture_digest([group, settings, dtypes])


def adapter_key(objects: ObjectStore, manifest: Manifest, below: str) -> str:
    """Group and model key of an adapter: base, type, settings and shapes.

    Settings that are off are as good as absent, since an older PEFT did not write them.

    Args:
        below: what its base holds.

    Raises:
        InvalidInputError: `bad-checkpoint` without a readable adapter_config.json.
    """
    config = _json_file(objects, manifest, names.ADAPTER_CONFIG, "so its type is not known")
    settings = {
        k: sorted(map(str, v)) if k in _ANY_ORDER and isinstance(v, list) else v
        for k, v in config.items()
        if v and v != "none" and k not in _COSMETIC_TO_ADAPTERS and not k.endswith("dropout")
    }
    settings.setdefault("peft_type", "LORA")
    return architecture_digest([below, settings, tensor_shapes(manifest)])


def _config(objects: ObjectStore, manifest: Manifest) -> dict[str, Any]:
    return _json_file(objects, manifest, names.CONFIG, "so its architecture is not known")


def _json_file(objects: ObjectStore, manifest: Manifest, path: str, consequence: str) -> dict[str, Any]:
    file = next((f for f in manifest.files if f.path == path and f.tensors is None), None)
    if file is None:
        raise InvalidInputError(f"it has no {path}, {consequence}", kind=ErrorKind.BAD_CHECKPOINT)
    try:
        config = json.loads(objects.blobs.read(file.blob, max_bytes=names.MAX_JSON_BYTES))
    except (ValueError, RecursionError) as exc:
        raise InvalidInputError(f"its {path} is malformed", kind=ErrorKind.BAD_CHECKPOINT) from exc
    if not isinstance(config, dict):
        raise InvalidInputError(f"its {path} is no object", kind=ErrorKind.BAD_CHECKPOINT)
    return config


def tensor_shapes(manifest: Manifest) -> list[tuple[str, tuple[int, ...]]]:
    """Name and shape of a checkpoint's own tensors, sorted."""
    return sorted((name, t.shape) for name, t in manifest.primary.items())


def architecture_digest(value: object) -> str:
    """A key that is the same for the same JSON value."""
    return hash_bytes("architecture", json.dumps(value, sort_keys=True).encode())
