"""From a task to its rendered rows: which files, which split, and every row as prompt and answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError, NotFoundError
from deltavcs.storage.hub_client import HubOptions
from deltavcs.storage.hub_datasets import fetch_files, list_dataset
from deltavcs.tasks.dataset_table import READERS
from deltavcs.tasks.definition import FileSource, HubSource, Task
from deltavcs.tasks.fingerprint import example_id, fingerprint_rows
from deltavcs.tasks.record import BadRow, bad_task, check_text
from deltavcs.tasks.row_lines import DEFAULT_LIMITS, RowLimits
from deltavcs.tasks.rows import SourceRow, read_rows
from deltavcs.tasks.splits import choose_split, group_by_split, split_of
from deltavcs.tasks.template import Example

# Datasets that are still a loading script carry their rows on this branch, converted by the Hub.
CONVERTED_REVISION = "refs/convert/parquet"


@dataclass(frozen=True, slots=True)
class TaskRows:
    """One split of a task, rendered.

    Attributes:
        task: the task's name.
        split: the split that was read.
        wanted_split: the split that was asked for; differs where only another exists.
        fingerprint: 64 hex digits; see `fingerprint_rows`.
        examples: in file order.
        row_ids: one id per example, from its text alone.
        origins: file and line of each example.
    """

    task: str
    split: str
    wanted_split: str
    fingerprint: str
    examples: tuple[Example, ...] = field(repr=False)
    row_ids: tuple[str, ...] = field(repr=False)
    origins: tuple[str, ...] = field(repr=False)

    @property
    def substituted(self) -> bool:
        """True if another split stands in for the wanted one."""
        return self.split != self.wanted_split


def read_task(
    task: Task,
    *,
    split: str | None = None,
    hub: HubOptions | None = None,
    limits: RowLimits = DEFAULT_LIMITS,
) -> TaskRows:
    """Read and render every row of one split.

    Args:
        task: the task.
        split: a split by name, which must exist; None for the first of `task.splits` that exists.
        hub: how to reach the Hub.
        limits: bounds on the input.

    Raises:
        InvalidInputError: `bad-task` naming file, line and reason; also if the split is absent or empty.
        NotFoundError, StorageError: the Hub does not have it, or cannot be reached.
    """
    wanted = (split,) if split is not None else task.splits
    found, rows = _open_split(task, wanted, hub or HubOptions(), limits)
    try:
        check_text("split's name", found)
    except BadRow as exc:
        raise bad_task(f"task {task.name}: {exc}") from exc
    rendered = tuple(_render_rows(task, rows, limits))
    if not rendered:
        raise bad_task(f"task {task.name}: split {found} has no rows")
    examples, origins = zip(*rendered, strict=True)
    ids = tuple(example_id(example) for example in examples)
    return TaskRows(
        task=task.name,
        split=found,
        wanted_split=wanted[0],
        fingerprint=fingerprint_rows(ids, task.template, found),
        examples=examples,
        row_ids=ids,
        origins=origins,
    )


def _render_rows(task: Task, rows: Iterator[SourceRow], limits: RowLimits) -> Iterator[tuple[Example, str]]:
    for count, row in enumerate(rows):
        if count >= limits.max_rows:  # of all files together
            raise bad_task(f"{row.origin}: more than {limits.max_rows} rows")
        yield render_row(task, row.columns, origin=row.origin), row.origin


def render_row(task: Task, columns: Mapping[str, object], *, origin: str) -> Example:
    """Render one row.

    Raises:
        InvalidInputError: `bad-task`; the message starts with `origin`.
    """
    try:
        example = task.template.render(READERS[task.columns](columns, task.template.numbering))
        check_text("prompt", example.prompt)
        check_text("answer", example.answer)
    except BadRow as exc:
        raise bad_task(f"{origin}: {exc}") from exc
    return example


def _open_split(
    task: Task, wanted: Sequence[str], hub: HubOptions, limits: RowLimits
) -> tuple[str, Iterator[SourceRow]]:
    source = task.source
    if isinstance(source, HubSource):
        split, paths = _fetch_split(source, wanted, hub)
        return split, _read_files(paths, limits)
    if source.path.is_dir():
        return _open_folder(task, source.path, wanted, limits)
    if not source.path.exists():
        raise _moved(task, source.path)
    return _open_file(source, wanted, limits)


def _fetch_split(
    source: HubSource, wanted: Sequence[str], options: HubOptions
) -> tuple[str, tuple[Path, ...]]:
    """The first of `wanted` that the dataset has, and its files on this machine, sorted by name.

    Without a revision, `main` is asked first, then the Hub's parquet conversion. All files come from one
    commit.
    """
    asked = (source.revision,) if source.revision is not None else ("main", CONVERTED_REVISION)
    for revision in asked:
        listing = list_dataset(source.repo_id, revision, options)
        if listing is None:
            continue
        groups = group_by_split(listing.files, config=source.config, prefix=None)
        for split in wanted:
            if split in groups:
                return split, fetch_files(listing, groups[split], options)
    raise NotFoundError(
        f"dataset {source.repo_id} has no parquet, jsonl or csv file for {' or '.join(wanted)}"
        f" at {' or '.join(asked)}{' in the cache' if options.offline else ''}",
        kind=ErrorKind.UNKNOWN_SOURCE,
        advice=Advice.ADD_ROWS_FILE,
    )


def _read_files(paths: Sequence[Path], limits: RowLimits) -> Iterator[SourceRow]:
    for path in paths:
        yield from read_rows(path, limits=limits)


def _open_folder(
    task: Task, folder: Path, wanted: Sequence[str], limits: RowLimits
) -> tuple[str, Iterator[SourceRow]]:
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    groups = group_by_split(names, config=None, prefix=task.name)
    split = choose_split(wanted, groups, where=str(folder))
    return split, _read_files([folder / name for name in groups[split]], limits)


def _open_file(
    source: FileSource, wanted: Sequence[str], limits: RowLimits
) -> tuple[str, Iterator[SourceRow]]:
    default = source.split or split_of(source.path.name) or "train"
    groups: dict[str, list[SourceRow]] = {}
    for row in read_rows(source.path, limits=limits):
        told = row.columns.get("split") if source.split is None else None
        groups.setdefault(told if isinstance(told, str) and told else default, []).append(row)
    split = choose_split(wanted, groups, where=str(source.path))
    return split, iter(groups[split])


def _moved(task: Task, path: Path) -> InvalidInputError:
    templated = task.columns == "user" and (task.template.prompt, task.template.answer) != (
        "{prompt}",
        "{answer}",
    )
    return bad_task(
        f"{path}: no such file (rows of task {task.name})",
        advice=Advice.TEMPLATED_TASK_FILE_MOVED if templated else Advice.TASK_FILE_MOVED,
        facts={"task": task.name},
    )
