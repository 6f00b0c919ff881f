from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.tasks.catalog import BUILTIN_TASKS
from deltavcs.tasks.definition import HubSource, Task, task_from_dict, task_to_dict, with_source
from deltavcs.tasks.template import Template


@pytest.mark.parametrize("name", sorted(BUILTIN_TASKS))
def test_definitions_survive_json(name: str) -> None:
    task = BUILTIN_TASKS[name]
    for kept in (task, with_source(task, Path("/x/y.jsonl"), split="test")):
        assert task_from_dict(json.loads(json.dumps(task_to_dict(kept)))) == kept


@pytest.mark.parametrize("value", [{}, {"name": "x"}, {"name": "x", "source": 3}, {"source": {}}])
def test_bad_definitions(value: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        task_from_dict(value)
    assert caught.value.kind is ErrorKind.BAD_TASK


@pytest.mark.parametrize(
    "change", [{"name": "../x"}, {"name": ""}, {"columns": "nothing"}, {"splits": ()}, {"name": "a b"}]
)
def test_bad_tasks(change: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"name": "t", "template": Template(), "source": HubSource("a/b")}
    with pytest.raises(InvalidInputError):
        Task(**(fields | change))
