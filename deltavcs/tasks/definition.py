"""Tasks: what is asked (template), of which rows (source), and how both are written down."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltavcs.advice import Advice
from deltavcs.tasks.dataset_table import READERS
from deltavcs.tasks.record import bad_task
from deltavcs.tasks.template import Template

# Mashup Learning §3 ranks on training rows, "to ensure that the method is applicable in practice, when
# validation data is not available"; the others only stand in.
SPLITS = ("train", "validation", "test")
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
        columns: what the columns mean; a key of `deltavcs.tasks.dataset_table.READERS`.
        splits: in order of preference; the first is the one to rank on.
    """

    name: str
    template: Template
    source: HubSource | FileSource
    columns: str = "user"
    splits: tuple[str, ...] = SPLITS

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise bad_task(f"bad task name {self.name!r}", advice=Advice.TASK_NAMES)
        if self.columns not in READERS:
            raise bad_task(f"unknown columns {self.columns!r} (there are: {', '.join(sorted(READERS))})")
        if not self.splits:
            raise bad_task("a task needs at least one split")


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
