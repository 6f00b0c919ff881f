"""Which files of a checkpoint play which part. By name, as the Hugging Face libraries name them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

MARKER = ".dvx-checkout.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX_SUFFIX = ".safetensors.index.json"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth")
# Written by Git, this tool and the Hub's client; not part of a checkpoint.
SKIPPED_FOLDERS = (".git", ".dvx", ".cache/huggingface")
_DRAFT = re.compile(r"\.[0-9a-f]{8}\.partial\Z")
MAX_JSON_BYTES = 64 << 20

_VOCABULARY = (
    "embed_tokens",
    "lm_head",
    "wte",
    "word_embeddings",
    "embed_in",
    "embed_out",
    "tok_embeddings",
)


def draft_name() -> str:
    """A new name for the folder in which a checkout is written before it is moved into place."""
    return f".{os.urandom(4).hex()}.partial"


def is_draft(path: str) -> bool:
    """True for what a checkout that was killed left behind: no part of a checkpoint."""
    return _DRAFT.match(path) is not None


def is_vocabulary(key: str) -> bool:
    """True for tensors with one row per token: embeddings and heads."""
    return any(part in key for part in _VOCABULARY)


def is_safetensors(path: str) -> bool:
    """True for a safetensors file."""
    return path.endswith(".safetensors")


def find_index(paths: Iterable[str]) -> str | None:
    """The top-level index of a sharded checkpoint, `model.safetensors.index.json` before others."""
    found = sorted(p for p in paths if "/" not in p and p.endswith(INDEX_SUFFIX))
    preferred = SINGLE + ".index.json"
    return preferred if preferred in found else next(iter(found), None)


def primary_files(paths: Iterable[str], index: bytes | None) -> frozenset[str]:
    """The safetensors files that hold the checkpoint's own tensors (spec §3.1).

    Args:
        paths: all files, relative.
        index: content of the file that `find_index` found.
    """
    top = {p for p in paths if "/" not in p and is_safetensors(p)}
    if index is not None:
        named = {str(PurePosixPath(x)) for x in _weight_map(index).values()}
        if named & top:
            return frozenset(named & top)
    for single in (SINGLE, ADAPTER_WEIGHTS):
        if single in top:
            return frozenset({single})
    return frozenset(top) if len(top) == 1 else frozenset()


def missing_shards(paths: Iterable[str], index: bytes | None) -> list[str]:
    """Files that the index names and that are not there."""
    return sorted(set(map(str, _weight_map(index).values())) - set(paths)) if index is not None else []


def _weight_map(index: bytes) -> dict[str, Any]:
    try:
        found = json.loads(index)["weight_map"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def tensor_key(path: str, name: str, *, primary: bool) -> str:
    """Key of a tensor in the manifest."""
    return name if primary else f"{path}::{name}"
