"""The tasks of a repository. A definition is a `task` object under `refs/tasks/NAME`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from deltavcs.advice import Advice
from deltavcs.brief import brief
from deltavcs.canonical import encode_json
from deltavcs.errors import ErrorKind, InvalidInputError, NotFoundError
from deltavcs.refs import ABSENT, check_name
from deltavcs.repo import Repository
from deltavcs.signature import Signature
from deltavcs.storage.hub_client import HubOptions
from deltavcs.tasks.catalog import BUILTIN_TASKS, TASK_REFS, find_task, own_tasks
from deltavcs.tasks.definition import (
    FileSource,
    HubSource,
    Task,
    file_task,
    task_to_dict,
    with_source,
)
from deltavcs.tasks.reading import TaskRows, read_task
from deltavcs.tasks.template import Example

_SHOWN_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A task, without its rows.

    Attributes:
        source: the file, or `hf://DATASET` with its configuration.
        builtin: True for a built-in task that the repository does not redefine.
    """

    name: str
    source: str
    columns: str
    splits: tuple[str, ...]
    builtin: bool

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class TaskReport:
    """A task with what its rows are.

    Attributes:
        split: the split that ranking uses.
        substituted: True if that is not the training split.
        examples: a few rendered rows.
    """

    info: TaskInfo
    split: str
    substituted: bool
    n_rows: int
    fingerprint: str
    examples: tuple[Example, ...]

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class Wording:
    """How the rows of a file are asked; None leaves it to the columns, or to the built-in task.

    Attributes:
        prompt, answer: templates with `{column}` in place of a column's text.
        numbering: `letters` or `numbers`, where the rows give their options no labels.
    """

    prompt: str | None = None
    answer: str | None = None
    numbering: str = "letters"


def add_task(
    repo: Repository,
    name: str,
    file: str | Path,
    *,
    wording: Wording | None = None,
    split: str | None = None,
    force: bool = False,
    signature: Signature | None = None,
) -> TaskReport:
    """Define a task over a local file or folder, after reading all of its rows once.

    A built-in task's name keeps that task's wording and takes the rows from the file, in the dataset's own
    columns or normalised, unless a template is given.

    Args:
        name: what the task is called from now on.
        file: `.parquet`, `.jsonl`, `.csv` or `.tsv`, or a folder of them, one a split.
        wording: how a row is asked; None leaves it to the columns.
        split: the split the file holds.
        force: replace a task of that name.

    Raises:
        NotFoundError: `unknown-source` if there is no such file.
        InvalidInputError: `bad-task` with file, line and reason; `bad-argument` if the name is taken, or if
            path or template is not Unicode.
    """
    repo.check_writable()
    file, wording = Path(file), wording or Wording()
    _check_unicode(file=str(file), prompt=wording.prompt, answer=wording.answer, split=split)
    if not file.exists():
        raise NotFoundError(f"{file} does not exist", kind=ErrorKind.UNKNOWN_SOURCE)
    task = _define(name, _plain_path(file), wording, split)
    ref = TASK_REFS + check_name(name)
    rows = read_task(task)
    current = repo.refs.get(ref)
    if current is not ABSENT and not force:
        raise InvalidInputError(
            f"there is a task {name} already",
            kind=ErrorKind.BAD_ARGUMENT,
            advice=Advice.REPLACE_TASK,
        )
    signature = signature or repo.identity.sign(f"task {name}")
    with repo.objects.transaction(repo.resources, level=repo.config.zstd_level) as transaction:
        oid = transaction.put_raw("task", encode_json(task_to_dict(task)))
        transaction.finish()
        if current != oid:
            repo.refs.move(ref, expected=current, new=oid, signature=signature)
    return _report(task, rows, builtin=False)


def _define(name: str, path: Path, wording: Wording, split: str | None) -> Task:
    if name in BUILTIN_TASKS and wording.prompt is None and wording.answer is None:
        return with_source(BUILTIN_TASKS[name], path, split=split)
    return file_task(
        name, path, prompt=wording.prompt, answer=wording.answer, numbering=wording.numbering, split=split
    )


def _check_unicode(**given: str | None) -> None:
    for name, value in given.items():
        try:
            (value or "").encode()
        except UnicodeEncodeError as exc:
            raise InvalidInputError(
                f"{name} is not UTF-8: {value!r}", kind=ErrorKind.BAD_ARGUMENT, advice=Advice.RENAME_OR_RETYPE
            ) from exc


def _plain_path(file: Path) -> Path:
    """The absolute path without `..`, but with its symbolic links: they may be there to be changed."""
    path = file.absolute()
    plain = Path(os.path.normpath(path))
    # `link/..` is not always the folder that the link lies in.
    return plain if plain.exists() and plain.samefile(path) else path


def remove_task(repo: Repository, name: str, *, signature: Signature | None = None) -> None:
    """Forget a task's definition. Its scores stay.

    Raises:
        NotFoundError: `unknown-ref` if the repository defines none of that name.
    """
    ref = TASK_REFS + check_name(name)
    current = repo.refs.get(ref)
    if current is ABSENT:
        raise NotFoundError(f"no task {name} is defined here", kind=ErrorKind.UNKNOWN_REF)
    signature = signature or repo.identity.sign(f"remove task {name}")
    repo.refs.move(ref, expected=current, new=ABSENT, signature=signature)


def list_tasks(repo: Repository) -> list[TaskInfo]:
    """The repository's own tasks, then the built-in ones it does not redefine."""
    own = own_tasks(repo.objects, repo.refs)
    builtin = [task for name, task in BUILTIN_TASKS.items() if name not in own]
    return [*(_info(t, builtin=False) for t in own.values()), *(_info(t, builtin=True) for t in builtin)]


def task(repo: Repository, name: str, *, hub: HubOptions | None = None) -> TaskReport:
    """Read a task's rows, count them and render three.

    Args:
        hub: how to reach the Hub, if the rows are there.

    Raises:
        NotFoundError: `unknown-source`: no such task, or its rows are gone.
        InvalidInputError: `bad-task` with file, line and reason.
        StorageError: the Hub cannot be reached.
        MissingDependencyError: a package that reads the rows is not installed.
    """
    found = find_task(repo.objects, repo.refs, name)
    own = repo.refs.get(TASK_REFS + check_name(name)) is not ABSENT
    return _report(found, read_task(found, hub=hub), builtin=not own)


def _info(task: Task, *, builtin: bool) -> TaskInfo:
    source = task.source
    if isinstance(source, HubSource):
        where = f"hf://{source.repo_id}" + (f" ({source.config})" if source.config else "")
    else:
        where = _file_text(source)
    return TaskInfo(task.name, where, task.columns, task.splits, builtin)


def _file_text(source: FileSource) -> str:
    return str(source.path) + (f" ({source.split})" if source.split else "")


def _report(task: Task, rows: TaskRows, *, builtin: bool) -> TaskReport:
    return TaskReport(
        info=_info(task, builtin=builtin),
        split=rows.split,
        substituted=rows.substituted,
        n_rows=len(rows.examples),
        fingerprint=rows.fingerprint,
        examples=rows.examples[:_SHOWN_EXAMPLES],
    )
