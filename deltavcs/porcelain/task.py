"""`dvx task`: the tasks of a repository. A definition is a `task` object under `refs/tasks/NAME`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deltavcs.errors import ErrorKind, InvalidInputError, NotFoundError
from deltavcs.objects.canonical import encode_json
from deltavcs.refs import ABSENT, check_name
from deltavcs.repo import Repository
from deltavcs.resources import Resources
from deltavcs.signature import Signature
from deltavcs.storage.hub_client import HubOptions
from deltavcs.tasks.catalog import BUILTIN_TASKS, TASK_REFS, find_task, own_tasks
from deltavcs.tasks.definition import FileSource, HubSource, Task, file_task, task_to_dict, with_source
from deltavcs.tasks.reading import TaskRows, read_task
from deltavcs.tasks.rows import SUFFIXES
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
    ref = TASK_REFS + check_name(name)
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
    ref = TASK_REFS + check_name(name)
    current = repo.refs.get(ref)
    if current is ABSENT:
        raise NotFoundError(f"no task {name} is defined here", kind=ErrorKind.UNKNOWN_REF)
    repo.refs.move(ref, expected=current, new=ABSENT, signature=signature)


def list_tasks(repo: Repository) -> list[TaskInfo]:
    """The repository's own tasks, then the built-in ones it does not redefine."""
    own = own_tasks(repo.objects, repo.refs)
    builtin = [task for name, task in BUILTIN_TASKS.items() if name not in own]
    return [*(_info(t, builtin=False) for t in own.values()), *(_info(t, builtin=True) for t in builtin)]


def show_task(repo: Repository, name: str, *, hub: HubOptions | None = None) -> TaskReport:
    """Read a task's rows and render three of them. Raises as `find_task` and `read_task` do."""
    task = find_task(repo.objects, repo.refs, name)
    own = repo.refs.get(TASK_REFS + check_name(name)) is not ABSENT
    return _report(task, read_task(task, hub=hub), builtin=not own)


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
