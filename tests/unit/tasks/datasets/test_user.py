from __future__ import annotations

from pathlib import Path

from task_rows import write_jsonl

from deltavcs.tasks.definition import file_task
from deltavcs.tasks.reading import read_task


def test_question_and_answer_rows(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"question": "Who?", "answer": "Me"}])
    assert read_task(file_task("t", path)).examples[0].prompt == "Who?\nAnswer:"
