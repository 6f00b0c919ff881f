"""`dvx task`: the tasks of a repository. A definition is a `task` object under `refs/tasks/NAME`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltavcs.errors import DeltaVCSError, ErrorKind, InvalidInputError, NotFoundError
from deltavcs.objects.canonical import decode_json, encode_json
from deltavcs.parallel import Resources
from deltavcs.rank.builtin import BUILTIN_TASKS
from deltavcs.rank.hub import HubOptions
from deltavcs.rank.rows import SUFFIXES
from deltavcs.rank.task import (
    FileSource,
    HubSource,
    Task,
    TaskRows,
    file_task,
    read_task,
    task_from_dict,
    task_to_dict,
    with_source,
)
from deltavcs.rank.template import Example
from deltavcs.refs import ABSENT, check_name
from deltavcs.refs.store import Signature
from deltavcs.repo import Repository

_PREFIX = "refs/tasks/"
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


def add_task(
    repo: Repository,
    name: str,
    file: Path,
    *,
    prompt: str | None = None,
    answer: str | None = None,
    numbering: str = "letters",
    split: str | None = None,
    force: bool = False,
    signature: Signature,
) -> TaskReport:
    """Define a task over a local file or folder, after reading all of its rows once.

    A built-in task's name keeps that task's wording and takes the rows from the file, in the dataset's own
    columns or normalised, unless a template is given.

    Args:
        prompt, answer: templates with `{column}` in place of a column's text.
        split: the split the file holds.
        force: replace a task of that name.

    Raises:
        NotFoundError: `unknown-source` if there is no such file.
        InvalidInputError: `bad-task` with file, line and reason; `bad-argument` if the name is taken, or if
            path or template is not Unicode.
    """
    repo.check_writable()
    _check_unicode(file=str(file), prompt=prompt, answer=answer, split=split)
    if not file.exists():
        raise NotFoundError(f"{file} does not exist", kind=ErrorKind.UNKNOWN_SOURCE)
    path = _plain_path(file)
    if name in BUILTIN_TASKS and prompt is None and answer is None:
        task = with_source(BUILTIN_TASKS[name], path, split=split)
    else:
        task = file_task(name, path, prompt=prompt, answer=answer, numbering=numbering, split=split)
    ref = _PREFIX + check_name(name)
    rows = read_task(task)
    current = repo.refs.get(ref)
    if current is not ABSENT and not force:
        raise InvalidInputError(
            f"there is a task {name} already", kind=ErrorKind.BAD_ARGUMENT, hint="Replace it with --force."
        )
    with repo.objects.transaction(Resources(), level=repo.config.zstd_level) as transaction:
        oid = transaction.put_raw("task", encode_json(task_to_dict(task)))
        transaction.finish()
        if current != oid:
            repo.refs.move(ref, expected=current, new=oid, signature=signature)
    return _report(task, rows, builtin=False)


def _check_unicode(**given: str | None) -> None:
    for name, value in given.items():
        try:
            (value or "").encode()
        except UnicodeEncodeError as exc:
            raise InvalidInputError(
                f"--{name} is not UTF-8: {value!r}", kind=ErrorKind.BAD_ARGUMENT, hint="Rename or retype it."
            ) from exc


def _plain_path(file: Path) -> Path:
    """The absolute path without `..`, but with its symbolic links: they may be there to be changed."""
    path = file.absolute()
    plain = Path(os.path.normpath(path))
    # `link/..` is not always the folder that the link lies in.
    return plain if plain.exists() and plain.samefile(path) else path


def remove_task(repo: Repository, name: str, *, signature: Signature) -> None:
    """Forget a task's definition. Its scores stay.

    Raises:
        NotFoundError: `unknown-ref` if the repository defines none of that name.
    """
    ref = _PREFIX + check_name(name)
    current = repo.refs.get(ref)
    if current is ABSENT:
        raise NotFoundError(f"no task {name} is defined here", kind=ErrorKind.UNKNOWN_REF)
    repo.refs.move(ref, expected=current, new=ABSENT, signature=signature)


def find_task(repo: Repository, name: str) -> Task:
    """The task called `name`: the repository's own, else the built-in one.

    Raises:
        NotFoundError: `unknown-source`, with the names that there are.
    """
    value = repo.refs.get(_PREFIX + check_name(name))
    if value is not ABSENT:
        return _decode(repo, value)
    if name in BUILTIN_TASKS:
        return BUILTIN_TASKS[name]
    known = [t.name for t in list_tasks(repo)]
    raise NotFoundError(
        f"no task {name!r}",
        kind=ErrorKind.UNKNOWN_SOURCE,
        hint=f"There are: {', '.join(known)}. Your own: dvx task add NAME --file rows.jsonl",
    )


def list_tasks(repo: Repository) -> list[TaskInfo]:
    """The repository's own tasks, then the built-in ones it does not redefine."""
    own = {ref.removeprefix(_PREFIX): _decode(repo, oid) for ref, oid in repo.refs.all("refs/tasks").items()}
    builtin = [task for name, task in BUILTIN_TASKS.items() if name not in own]
    return [*(_info(t, builtin=False) for t in own.values()), *(_info(t, builtin=True) for t in builtin)]


def show_task(repo: Repository, name: str, *, hub: HubOptions | None = None) -> TaskReport:
    """Read a task's rows and render three of them. Raises as `find_task` and `read_task` do."""
    task = find_task(repo, name)
    own = repo.refs.get(_PREFIX + check_name(name)) is not ABSENT
    return _report(task, read_task(task, hub=hub), builtin=not own)


def _decode(repo: Repository, oid: str) -> Task:
    value: Any = decode_json(repo.objects.get("task", oid))
    if not isinstance(value, dict):
        raise InvalidInputError("not a task definition", kind=ErrorKind.BAD_TASK)
    try:
        return task_from_dict(value)
    except DeltaVCSError as exc:
        raise exc.within(f"task object {oid[:12]}") from exc


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


def supported_suffixes() -> Sequence[str]:
    """Kinds of files that hold rows, for help texts."""
    return SUFFIXES
