"""Opening a source that a user named: a directory, a file, a model on the Hub, pickled weights."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltavcs.checkpoint.intake import Intake
from deltavcs.checkpoint.pickle_weights import convert_pickles, pickled_weights
from deltavcs.checkpoint.shards import folders_of, listed, parse_index, pickle_index, problem_of_others
from deltavcs.checkpoint.source import (
    SourceCheckpoint,
    incomplete,
    open_survey,
    read_small_file,
    survey_source,
)
from deltavcs.checkpoint.survey import Survey
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
def open_source(
    repo: Repository, source: str, *, intake: Intake | None = None, allow_pickle: bool = False
) -> Iterator[OpenedSource]:
    """Open a directory, a `.safetensors` file, or `hf://ORG/NAME[@REVISION]`.

    Args:
        intake: which of its files are taken; None for the defaults.
        allow_pickle: convert `.bin` and `.pt` weights through `torch.load(weights_only=True)`.

    Raises:
        NotFoundError: `unknown-source`.
        FormatError, InvalidInputError: the files are malformed, incomplete, or pickles.
    """
    intake = intake or Intake()
    with Workspace(repo.storage) as workspace:
        if is_hub_source(source):
            path = workspace.folder("download")
            origin = download(source, path, allow_pickle=allow_pickle)
        else:
            path = Path(source)
            # A path need not be text; what is stored must be.
            origin = {"path": os.fsencode(path.absolute()).decode("utf-8", "replace")}
        survey = survey_source(path, intake)
        converted, named = _convert(survey, intake, workspace.folder, allowed=allow_pickle)
        with open_survey(survey, intake) as checkpoint:
            _check_converted(checkpoint, survey, named, intake)
            yield OpenedSource(
                checkpoint, {**origin, "converted": list(converted)} if converted else origin, converted
            )


def _convert(
    survey: Survey, intake: Intake, scratch: Callable[[str], Path], *, allowed: bool
) -> tuple[tuple[str, ...], Collection[str]]:
    """Put safetensors in the place of pickled weights; which were converted, and what their index names."""
    path, top = survey.root, {p for p in survey.files if "/" not in p}
    if not pickled_weights(path, top):
        return (), ()
    folder = folders_of(survey.files.keys(), lambda p: read_small_file(survey.files[p]))[0]
    problem = problem_of_others(folder)
    if problem and not intake.incomplete:
        raise incomplete(survey, problem)
    index = pickle_index(folder.names)
    named = parse_index(index, folder.read(index))[0] if index is not None else {}
    copy, converted = convert_pickles(path, scratch=scratch, allowed=allowed, taken=top)
    new = {p.name: p for p in copy.iterdir() if p.is_file() and not p.is_symlink()}
    gone = {*converted, *(p for p in top if p.endswith(".bin.index.json"))}
    survey.replace_files(gone, new)
    return converted, named


def _check_converted(
    checkpoint: SourceCheckpoint, survey: Survey, named: Collection[str], intake: Intake
) -> None:
    gone = [name for name in named if name not in checkpoint.tensors]
    if gone and not intake.incomplete:
        raise incomplete(survey, f"the index names {listed(gone)}, which none of its files holds")


def default_name(source: str) -> str:
    """Name of the branch if the user gives none: the last part of the source."""
    text = source.removeprefix("hf://").partition("@")[0] if is_hub_source(source) else source
    path = Path(text) if is_hub_source(source) else Path(text).absolute()
    return path.name.removesuffix(".safetensors")
