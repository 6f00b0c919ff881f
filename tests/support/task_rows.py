"""Rows of tasks in files, and what is said of those that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.tasks.definition import Task, file_task
from deltavcs.tasks.reading import read_task
from deltavcs.tasks.row_lines import RowLimits

GOOD = b'{"prompt": "x", "answer": "y"}\n'


def refused(path: Path, content: bytes, *, limits: RowLimits | None = None) -> InvalidInputError:
    path.write_bytes(content)
    with pytest.raises(InvalidInputError) as caught:
        read_task(file_task("t", path), limits=limits or RowLimits())
    assert caught.value.kind is ErrorKind.BAD_TASK
    return caught.value


def choice_rows(n: int, *, task: str = "t", split: str = "train") -> list[dict[str, Any]]:
    return [
        {
            "id": f"{task}-{i}",
            "task": task,
            "split": split,
            "question": f"{task} question {i}?",
            "choices": [f"x{i}", f"y{i}", f"z{i}"],
            "label": i % 3,
        }
        for i in range(n)
    ]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def bad_task_message(task: Task, **kwargs: Any) -> str:
    with pytest.raises(InvalidInputError) as caught:
        read_task(task, **kwargs)
    assert caught.value.kind is ErrorKind.BAD_TASK
    return str(caught.value)
