"""Tasks: what is asked (template), of which rows (source), and the identity of both (fingerprint)."""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deltavcs.errors import InvalidInputError
from deltavcs.oid import hash_bytes
from deltavcs.tasks.choices import READERS
from deltavcs.tasks.hub_rows import HubOptions, fetch_split, group_by_split, split_of
from deltavcs.tasks.rows import DEFAULT_LIMITS, RowLimits, SourceRow, read_rows
from deltavcs.tasks.template import BadRow, Example, Template, bad_task

# Mashup Learning §3 ranks on training rows, "to ensure that the method is applicable in practice, when
# validation data is not available"; the others only stand in.
SPLITS = ("train", "validation", "test")
DEFAULT_SAMPLES = 256  # Mashup Learning §5.2
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")


@dataclass(frozen=True, slots=True)
class HubSource:
    """Rows of a dataset on the Hugging Face Hub.

    Attributes:
        repo_id: `OWNER/NAME`.
        config: the dataset's configuration, or None.
        revision: branch, tag or commit; None for `main`, then the Hub's parquet conversion.
    """

    repo_id: str
    config: str | None = None
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class FileSource:
    """Rows of a local file, or of a folder whose file names tell the splits.

    Attributes:
        path: a `.jsonl`, `.parquet` or `.csv` file, or a folder of them.
        split: the split a file holds; None to go by its `split` column, its name, or `train`.
    """

    path: Path
    split: str | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A named source of prompts with answers.

    Attributes:
        name: letters, digits, `.`, `_`, `-`.
        template: how a row is asked.
        source: where the rows come from.
        columns: what the columns mean; a key of `deltavcs.tasks.choices.READERS`.
        splits: in order of preference; the first is the one to rank on.
    """

    name: str
    template: Template
    source: HubSource | FileSource
    columns: str = "user"
    splits: tuple[str, ...] = SPLITS

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise bad_task(
                f"bad task name {self.name!r}", hint="letters, digits, '.', '_' and '-', at most 100"
            )
        if self.columns not in READERS:
            raise bad_task(f"unknown columns {self.columns!r}", hint="one of " + ", ".join(sorted(READERS)))
        if not self.splits:
            raise bad_task("a task needs at least one split")


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


def file_task(
    name: str,
    path: Path,
    *,
    prompt: str | None = None,
    answer: str | None = None,
    numbering: str = "letters",
    split: str | None = None,
) -> Task:
    """A user's task over a local file or folder.

    Without `prompt`, rows need `prompt` and `answer`, or `question` and `answer`, or `question`, `choices`
    and `label`.

    Raises:
        InvalidInputError: `bad-task` for a bad name or template.
    """
    template = Template(prompt=prompt or "{prompt}", answer=answer or "{answer}", numbering=numbering, cue="")
    return Task(name=name, template=template, source=FileSource(path=path, split=split))


def with_source(task: Task, path: Path, *, split: str | None = None) -> Task:
    """The same task over local rows: the dataset's own columns or normalised ones."""
    return Task(task.name, task.template, FileSource(path, split), task.columns, task.splits)


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
    examples: list[Example] = []
    origins: list[str] = []
    for row in rows:
        examples.append(render_row(task, row.columns, origin=row.origin))
        origins.append(row.origin)
    if not examples:
        raise bad_task(f"task {task.name}: split {found} has no rows")
    ids = tuple(example_id(example) for example in examples)
    return TaskRows(
        task=task.name,
        split=found,
        wanted_split=wanted[0],
        fingerprint=fingerprint_rows(ids, task.template, found),
        examples=tuple(examples),
        row_ids=ids,
        origins=tuple(origins),
    )


def render_row(task: Task, columns: Mapping[str, object], *, origin: str) -> Example:
    """Render one row.

    Raises:
        InvalidInputError: `bad-task`; the message starts with `origin`.
    """
    try:
        example = task.template.render(READERS[task.columns](columns, task.template.numbering))
        _check_text("prompt", example.prompt)
        _check_text("answer", example.answer)
    except BadRow as exc:
        raise bad_task(f"{origin}: {exc}") from exc
    return example


def _check_text(name: str, text: str) -> None:
    """Raise BadRow for what JSON can write, but no tokenizer can read."""
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        half = text[exc.start].encode("unicode_escape").decode()
        raise BadRow(f"the {name} holds {half}, half of a surrogate pair, which is no character") from exc


def example_id(example: Example) -> str:
    """The id of one rendered row: its prompt and answer, nothing of file, line or other columns."""
    return hash_bytes("task-row", _canonical([example.prompt, example.answer]))


def fingerprint_rows(row_ids: Sequence[str], template: Template, split: str) -> str:
    """The identity of a task's rows under a template: 64 hex digits.

    BLAKE3-256, domain `task-fingerprint`, of the canonical JSON
    `{"rows": [ids, sorted], "split": …, "template": {…}}`. The order of rows, the kind of file and columns
    that the template does not show make no difference; a changed, added or repeated row does.
    """
    value = {"rows": sorted(row_ids), "split": split, "template": template.to_dict()}
    return hash_bytes("task-fingerprint", _canonical(value))


def sample_examples(rows: TaskRows, n: int = DEFAULT_SAMPLES, *, seed: int = 0) -> tuple[Example, ...]:
    """Choose `n` examples, or all if there are fewer.

    Each row draws the number BLAKE3(seed, row id); the `n` smallest win, in that order. So the choice does
    not depend on the order of rows, a larger sample contains every smaller one of the same seed, and adding
    a row changes at most one place.

    Raises:
        InvalidInputError: `bad-task` for n < 1.
    """
    if n < 1:
        raise bad_task(f"cannot take {n} samples")
    drawn = (
        (hash_bytes("task-sample", f"{seed}:{row_id}".encode()), i) for i, row_id in enumerate(rows.row_ids)
    )
    return tuple(rows.examples[i] for _, i in heapq.nsmallest(n, drawn))


def task_to_dict(task: Task) -> dict[str, Any]:
    """The task as a JSON object; `task_from_dict` reads it back."""
    if isinstance(task.source, HubSource):
        source: dict[str, Any] = {
            "hub": task.source.repo_id,
            "config": task.source.config,
            "revision": task.source.revision,
        }
    else:
        source = {"file": str(task.source.path), "split": task.source.split}
    return {
        "columns": task.columns,
        "name": task.name,
        "source": source,
        "splits": list(task.splits),
        "template": task.template.to_dict(),
    }


def task_from_dict(value: Mapping[str, Any]) -> Task:
    """Read what `task_to_dict` wrote.

    Raises:
        InvalidInputError: `bad-task` if it is anything else.
    """
    try:
        source = value["source"]
        return Task(
            name=str(value["name"]),
            template=Template(**{str(k): str(v) for k, v in value["template"].items()}),
            source=HubSource(str(source["hub"]), source.get("config"), source.get("revision"))
            if "hub" in source
            else FileSource(Path(source["file"]), source.get("split")),
            columns=str(value["columns"]),
            splits=tuple(str(s) for s in value["splits"]),
        )
    except (KeyError, TypeError, AttributeError) as exc:
        raise bad_task(f"not a task definition: {exc}") from exc


def _canonical(value: object) -> bytes:
    """Canonical JSON, as in spec §2.1."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode("utf-8", "surrogatepass")


def _open_split(
    task: Task, wanted: Sequence[str], hub: HubOptions, limits: RowLimits
) -> tuple[str, Iterator[SourceRow]]:
    source = task.source
    if isinstance(source, HubSource):
        fetched = fetch_split(
            source.repo_id, splits=wanted, revision=source.revision, config=source.config, options=hub
        )
        return fetched.split, _read_files(fetched.paths, limits)
    if source.path.is_dir():
        return _open_folder(task, source.path, wanted, limits)
    if not source.path.exists():
        raise _moved(task, source.path)
    return _open_file(source, wanted, limits)


def _moved(task: Task, path: Path) -> InvalidInputError:
    again = f"dvx task add {task.name} --file NEW --force"
    if task.columns == "user" and (task.template.prompt, task.template.answer) != ("{prompt}", "{answer}"):
        again += ", with its --prompt and --answer"
    return bad_task(f"{path}: no such file (rows of task {task.name})", hint=f"if it has moved: {again}")


def _read_files(paths: Sequence[Path], limits: RowLimits) -> Iterator[SourceRow]:
    for path in paths:
        yield from read_rows(path, limits=limits)


def _open_folder(
    task: Task, folder: Path, wanted: Sequence[str], limits: RowLimits
) -> tuple[str, Iterator[SourceRow]]:
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    groups = group_by_split(names, config=None, prefix=task.name)
    split = _first(wanted, groups, where=str(folder))
    return split, _read_files([folder / name for name in groups[split]], limits)


def _open_file(
    source: FileSource, wanted: Sequence[str], limits: RowLimits
) -> tuple[str, Iterator[SourceRow]]:
    default = source.split or split_of(source.path.name) or "train"
    groups: dict[str, list[SourceRow]] = {}
    for row in read_rows(source.path, limits=limits):
        told = row.columns.get("split") if source.split is None else None
        groups.setdefault(told if isinstance(told, str) and told else default, []).append(row)
    split = _first(wanted, groups, where=str(source.path))
    return split, iter(groups[split])


def _first(wanted: Sequence[str], have: Mapping[str, object], *, where: str) -> str:
    for split in wanted:
        if split in have:
            return split
    raise bad_task(
        f"{where}: no rows for {' or '.join(wanted)} (there is: {', '.join(sorted(have)) or 'nothing'})"
    )
