"""The tasks that a repository knows: its own, under `refs/tasks/NAME`, and the built-in ones."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from deltavcs.advice import Advice
from deltavcs.canonical import decode_json
from deltavcs.errors import DeltaVCSError, ErrorKind, InvalidInputError, NotFoundError
from deltavcs.objects.store import ObjectStore
from deltavcs.refs import ABSENT, RefStore, check_name
from deltavcs.tasks.dataset_table import DATASETS
from deltavcs.tasks.datasets.dataset import Dataset
from deltavcs.tasks.definition import HubSource, Task, task_from_dict

TASK_REFS = "refs/tasks/"


def _builtin(dataset: Dataset) -> Task:
    source = HubSource(dataset.repo_id, config=dataset.config)
    return Task(dataset.name, dataset.template, source, columns=dataset.columns)


BUILTIN_TASKS: Mapping[str, Task] = MappingProxyType({d.name: _builtin(d) for d in DATASETS})


def find_task(objects: ObjectStore, refs: RefStore, name: str) -> Task:
    """The task called `name`: the repository's own, else the built-in one.

    Raises:
        NotFoundError: `unknown-source`, with the names that there are.
    """
    value = refs.get(TASK_REFS + check_name(name))
    if value is not ABSENT:
        return _decode(objects, value)
    if name in BUILTIN_TASKS:
        return BUILTIN_TASKS[name]
    known = list(dict.fromkeys([*own_tasks(objects, refs), *BUILTIN_TASKS]))
    raise NotFoundError(
        f"no task {name!r}",
        kind=ErrorKind.UNKNOWN_SOURCE,
        advice=Advice.KNOWN_TASKS,
        facts={"tasks": ", ".join(known)},
    )


def own_tasks(objects: ObjectStore, refs: RefStore) -> dict[str, Task]:
    """The tasks that the repository itself defines, by name."""
    found = refs.all("refs/tasks")
    return {ref.removeprefix(TASK_REFS): _decode(objects, oid) for ref, oid in found.items()}


def _decode(objects: ObjectStore, oid: str) -> Task:
    value: Any = decode_json(objects.get("task", oid))
    if not isinstance(value, dict):
        raise InvalidInputError("not a task definition", kind=ErrorKind.BAD_TASK)
    try:
        return task_from_dict(value)
    except DeltaVCSError as exc:
        raise exc.within(f"task object {oid[:12]}") from exc
