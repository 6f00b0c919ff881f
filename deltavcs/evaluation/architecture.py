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


def _config(objects: ObjectStore, manifest: Manifest) -> dict[str, Any]:
    file = next((f for f in manifest.files if f.path == names.CONFIG and f.tensors is None), None)
    if file is None:
        raise InvalidInputError(
            "it has no config.json, so its architecture is not known", kind=ErrorKind.BAD_CHECKPOINT
        )
    try:
        config = json.loads(objects.blobs.read(file.blob, max_bytes=names.MAX_JSON_BYTES))
    except (ValueError, RecursionError) as exc:
        raise InvalidInputError("its config.json is malformed", kind=ErrorKind.BAD_CHECKPOINT) from exc
    if not isinstance(config, dict):
        raise InvalidInputError("its config.json is no object", kind=ErrorKind.BAD_CHECKPOINT)
    return config


def tensor_shapes(manifest: Manifest) -> list[tuple[str, tuple[int, ...]]]:
    """Name and shape of a checkpoint's own tensors, sorted."""
    return sorted((name, t.shape) for name, t in manifest.primary.items())


def architecture_digest(value: object) -> str:
    """A key that is the same for the same JSON value."""
    return hash_bytes("architecture", json.dumps(value, sort_keys=True).encode())
