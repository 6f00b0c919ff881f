"""Downloading a checkpoint from the Hugging Face Hub, at one resolved revision, verified."""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from deltavcs.advice import Advice
from deltavcs.errors import (
    DeltaVCSError,
    ErrorKind,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    StorageError,
    reason_of,
)
from deltavcs.storage.file_calls import translate_os_errors
from deltavcs.storage.hub_client import import_hub

_SCHEME = "hf://"
_SOURCE = re.compile(
    r"hf://(?P<repo>[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?)(?:@(?P<revision>[\w./-]+))?\Z"
)


def is_hub_source(source: str) -> bool:
    """True for `hf://…`."""
    return source.startswith(_SCHEME)


def download(
    source: str, folder: Path, *, choose: Callable[[Mapping[str, int]], Collection[str]]
) -> dict[str, Any]:
    """Download a model into `folder` and return where it came from: revision and file hashes.

    The name is resolved to a commit once, so all files are of one commit.

    Args:
        choose: which files of the model are wanted, given their sizes by path.

    Raises:
        InvalidInputError: `bad-argument` for a malformed source.
        NotFoundError: `unknown-source` if the model or the revision does not exist, or is private.
        IntegrityError: `hash-mismatch` if a file does not have the hash that the Hub declares.
        StorageError: `remote` for everything else that goes wrong on the way.
        MissingDependencyError: huggingface_hub is not installed.
    """
    found = _SOURCE.match(source)
    if found is None or ".." in source:
        raise InvalidInputError(
            f"{source!r} is not a model on the Hub",
            kind=ErrorKind.BAD_ARGUMENT,
            advice=Advice.WRITE_HUB_NAME,
        )
    hub = import_hub()
    try:
        info = hub.HfApi().model_info(found["repo"], revision=found["revision"], files_metadata=True)
        wanted = choose({s.rfilename: s.size or 0 for s in info.siblings or ()})
        exact = [glob.escape(name) for name in wanted]
        hub.snapshot_download(found["repo"], revision=info.sha, local_dir=folder, allow_patterns=exact)
    except Exception as exc:
        raise _translate(source, exc) from exc
    hashes = _verify(info, folder)
    return {
        "hub": found["repo"],
        "requested": found["revision"] or "main",
        "revision": info.sha,
        "sha256": hashes,
    }


def _verify(info: Any, folder: Path) -> dict[str, str]:
    """SHA-256 of every file, checked against what the Hub declares for the large ones."""
    declared = {s.rfilename: s.lfs.sha256 for s in info.siblings or () if getattr(s, "lfs", None)}
    hashes = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name.startswith(".cache/"):
            continue
        hashes[name] = _sha256(path)
        if declared.get(name, hashes[name]) != hashes[name]:
            raise IntegrityError(
                f"{name} was not downloaded as the Hub declares it",
                kind=ErrorKind.HASH_MISMATCH,
                advice=Advice.RUN_AGAIN,
            )
    return hashes


def _sha256(path: Path) -> str:
    with translate_os_errors(f"cannot read {path}"), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _translate(source: str, exc: Exception) -> DeltaVCSError:
    if isinstance(exc, DeltaVCSError):
        return exc
    errors = import_hub().errors
    if isinstance(exc, errors.RepositoryNotFoundError | errors.RevisionNotFoundError | errors.GatedRepoError):
        return NotFoundError(
            f"{source} does not exist, or you may not see it",
            kind=ErrorKind.UNKNOWN_SOURCE,
            advice=Advice.LOG_IN,
        )
    return StorageError(f"cannot download {source}: {reason_of(exc)}", kind=ErrorKind.REMOTE, retryable=True)
