"""Opening a source that a user named: a directory, a file, a model on the Hub, pickled weights."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltavcs.advice import Advice
from deltavcs.checkpoint.intake import Cause, Intake
from deltavcs.checkpoint.listing import Choice, choose_listed
from deltavcs.checkpoint.marker import check_settled, read_marker
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
from deltavcs.errors import InvalidInputError
from deltavcs.refs import check_name
from deltavcs.repo import Repository
from deltavcs.storage import Workspace
from deltavcs.storage.hub_models import download, is_hub_source


@dataclass(frozen=True, slots=True)
class OpenedSource:
    """A source, open for reading, and where it came from.

    Attributes:
        converted: weight files that were converted from pickle, with the key that their tensors were found
            under, such as `checkpoint.pt (model_state_dict)`.
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
            origin, choice = _fetch(source, path, intake, allow_pickle=allow_pickle)
        else:
            path, choice = Path(source), None
            check_settled(path)
            intake = _with_checked_out(path, intake)
            origin = {"path": readable(str(path.absolute()))}
        survey = survey_source(path, intake)
        if choice is not None:
            ours = [x for x in survey.left_out if x.cause is not Cause.INTERNAL]
            survey.left_out = sorted([*ours, *choice.left_out], key=lambda x: x.path)
            survey.unmatched = choice.unmatched
        converted, named = _convert(survey, intake, workspace.folder, allowed=allow_pickle)
        with open_survey(survey, intake) as checkpoint:
            _check_converted(checkpoint, survey, named, intake)
            facts = {"converted": list(converted), "incomplete": list(checkpoint.findings.incomplete)}
            origin |= {name: value for name, value in facts.items() if value}
            yield OpenedSource(checkpoint, origin, converted)


def _with_checked_out(path: Path, intake: Intake) -> Intake:
    """What a checkout wrote is taken again: it has been asked for once."""
    marker = read_marker(path)
    return intake.taking(marker.files) if marker is not None and marker.files else intake


def _fetch(source: str, folder: Path, intake: Intake, *, allow_pickle: bool) -> tuple[dict[str, Any], Choice]:
    """Download what is wanted of a model, and say what is not."""
    choices: list[Choice] = []

    def choose(sizes: Mapping[str, int]) -> Collection[str]:
        choices.append(choose_listed(sizes, intake, allow_pickle=allow_pickle))
        return choices[-1].wanted

    try:
        return download(source, folder, choose=choose), choices[-1]
    except InvalidInputError as exc:
        raise exc if source in exc.message else exc.within(source) from exc.__cause__


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
    copy, wrappers = convert_pickles(path, scratch=scratch, allowed=allowed, taken=top)
    new = {p.name: p for p in copy.iterdir() if p.is_file() and not p.is_symlink()}
    gone = {*wrappers, *(p for p in top if p.endswith(".bin.index.json"))}
    survey.replace_files(gone, new)
    return tuple(f"{name} ({key})" if key else name for name, key in wrappers.items()), named


def _check_converted(
    checkpoint: SourceCheckpoint, survey: Survey, named: Collection[str], intake: Intake
) -> None:
    gone = [name for name in named if name not in checkpoint.tensors]
    if gone and not intake.incomplete:
        raise incomplete(survey, f"the index names {listed(gone)}, which none of its files holds")


def readable(source: str) -> str:
    """A source as text: a path need not be text, but what is stored must be."""
    return os.fsencode(source).decode("utf-8", "replace")


def branch_for(source: str, name: str | None) -> str:
    """The branch that a source is committed to: the name that was given, or the last part of the source.

    Raises:
        InvalidInputError: `bad-ref-name`.
    """
    if name is not None:
        return check_name(name)
    try:
        return check_name(default_name(source))
    except InvalidInputError as exc:
        raise InvalidInputError(exc.message, kind=exc.kind, advice=Advice.GIVE_NAME) from exc


def default_name(source: str) -> str:
    """Name of the branch if the user gives none: the last part of the source."""
    text = source.removeprefix("hf://").partition("@")[0] if is_hub_source(source) else source
    path = Path(text) if is_hub_source(source) else Path(text).absolute()
    return path.name.removesuffix(".safetensors")
