"""Opening a source that a user named: a directory, a file, a model on the Hub, pickled weights."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltavcs.checkpoint.marker import check_settled
from deltavcs.checkpoint.pickle_weights import convert_pickles
from deltavcs.checkpoint.source import SourceCheckpoint, open_checkpoint
from deltavcs.repo import Repository
from deltavcs.storage import Workspace
from deltavcs.storage.hub_models import download, is_hub_source


@dataclass(frozen=True, slots=True)
class OpenedSource:
    """A source, open for reading, and where it came from.

    Attributes:
        converted: weight files that were converted from pickle.
    """

    checkpoint: SourceCheckpoint
    origin: Mapping[str, Any]
    converted: tuple[str, ...] = ()


@contextlib.contextmanager
def open_source(repo: Repository, source: str, *, allow_pickle: bool = False) -> Iterator[OpenedSource]:
    """Open a directory, a `.safetensors` file, or `hf://ORG/NAME[@REVISION]`.

    Args:
        allow_pickle: convert `.bin` and `.pt` weights through `torch.load(weights_only=True)`.

    Raises:
        NotFoundError: `unknown-source`.
        FormatError, InvalidInputError: the files are malformed, or pickles.
    """
    with Workspace(repo.storage) as workspace:
        if is_hub_source(source):
            path = workspace.folder("download")
            origin = download(source, path, allow_pickle=allow_pickle)
        else:
            path = Path(source)
            # A path need not be text; what is stored must be.
            origin = {"path": os.fsencode(path.absolute()).decode("utf-8", "replace")}
            check_settled(path)
        converted: tuple[str, ...] = ()
        if path.exists():
            path, converted = convert_pickles(path, scratch=workspace.folder, allowed=allow_pickle)
        with open_checkpoint(path) as checkpoint:
            yield OpenedSource(
                checkpoint, {**origin, "converted": list(converted)} if converted else origin, converted
            )


def default_name(source: str) -> str:
    """Name of the branch if the user gives none: the last part of the source."""
    text = source.removeprefix("hf://").partition("@")[0] if is_hub_source(source) else source
    path = Path(text) if is_hub_source(source) else Path(text).absolute()
    return path.name.removesuffix(".safetensors")
