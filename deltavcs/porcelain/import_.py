"""`dvx import`: a base model from a directory, a file or the Hub."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltavcs.checkpoint.ingest import ingest
from deltavcs.checkpoint.pickle_weights import convert_pickles
from deltavcs.checkpoint.source import SourceCheckpoint, open_checkpoint
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import Commit, Kind
from deltavcs.refs import check_name
from deltavcs.repo import Repository
from deltavcs.resources import Resources
from deltavcs.signature import Signature
from deltavcs.steps.recording import EMPTY, Recorded, record, tip_of
from deltavcs.storage import Workspace
from deltavcs.storage.hub_models import download, is_hub_source


@dataclass(frozen=True, slots=True)
class Imported:
    """A base that was imported.

    Attributes:
        skipped: folders of the source that were left out.
        converted: weight files that were converted from pickle.
        n_own_tensors: tensors at the top level; 0 for a folder of several models or parts.
    """

    recorded: Recorded
    source: Mapping[str, Any]
    skipped: tuple[str, ...]
    converted: tuple[str, ...]
    n_own_tensors: int


def import_base(
    repo: Repository,
    source: str,
    *,
    name: str | None = None,
    message: str = "",
    metadata: Mapping[str, str] | None = None,
    allow_pickle: bool = False,
    signature: Signature,
    resources: Resources | None = None,
) -> Imported:
    """Commit a checkpoint as a base.

    Args:
        source: a directory, a `.safetensors` file, or `hf://ORG/NAME[@REVISION]`.
        name: branch to commit to; by default that of the source.
        allow_pickle: convert `.bin` and `.pt` weights through `torch.load(weights_only=True)`.

    Raises:
        NotFoundError: `unknown-source`.
        FormatError, InvalidInputError: the files are malformed, or hold no weights.
        ConflictError: a file changed while it was read, or someone else moved the branch.
    """
    resources = resources or Resources()
    branch = check_name(default_name(source) if name is None else name)
    previous = tip_of(repo, branch)
    with open_source(repo, source, allow_pickle=allow_pickle) as opened:
        if opened.checkpoint.is_adapter:
            raise InvalidInputError(
                f"{source} is an adapter, not a base",
                kind=ErrorKind.BAD_CHECKPOINT,
                hint="Import its base first, then commit it: dvx commit DIR --base NAME.",
            )
        draft = Commit(
            kind=Kind.BASE,
            manifest=EMPTY,
            message=message,
            author=signature.author,
            time=signature.time,
            metadata=dict(metadata or {}),
            source=opened.origin,
        )
        old = repo.manifest(previous) if previous else None
        recorded = record(
            repo,
            branch,
            draft,
            lambda tx: ingest(tx, opened.checkpoint, base=None, previous=old, resources=resources),
            base=None,
            signature=signature,
            resources=resources,
        )
        n_own = len(repo.manifest(recorded.commit).primary)
        return Imported(recorded, opened.origin, tuple(opened.checkpoint.skipped), opened.converted, n_own)


def default_name(source: str) -> str:
    """Name of the branch if the user gives none: the last part of the source."""
    text = source.removeprefix("hf://").partition("@")[0] if is_hub_source(source) else source
    path = Path(text) if is_hub_source(source) else Path(text).absolute()
    return path.name.removesuffix(".safetensors")


@dataclass(frozen=True, slots=True)
class OpenedSource:
    """A source, open for reading, and where it came from."""

    checkpoint: SourceCheckpoint
    origin: Mapping[str, Any]
    converted: tuple[str, ...] = ()


@contextlib.contextmanager
def open_source(repo: Repository, source: str, *, allow_pickle: bool) -> Iterator[OpenedSource]:
    """Open a source that a user named: local, on the Hub, or with pickled weights to be converted."""
    with Workspace(repo.storage) as workspace:
        if is_hub_source(source):
            path = workspace.folder("download")
            origin = download(source, path, allow_pickle=allow_pickle)
        else:
            path = Path(source)
            # A path need not be text; what is stored must be.
            origin = {"path": os.fsencode(path.absolute()).decode("utf-8", "replace")}
        converted: tuple[str, ...] = ()
        if path.exists():
            path, converted = convert_pickles(path, scratch=workspace.folder, allowed=allow_pickle)
        with open_checkpoint(path) as checkpoint:
            yield OpenedSource(
                checkpoint, {**origin, "converted": list(converted)} if converted else origin, converted
            )
