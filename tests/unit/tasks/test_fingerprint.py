from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from task_rows import choice_rows, write_jsonl

from deltavcs.oid import hash_bytes
from deltavcs.tasks.catalog import BUILTIN_TASKS
from deltavcs.tasks.definition import file_task, with_source
from deltavcs.tasks.fingerprint import example_id
from deltavcs.tasks.reading import read_task
from deltavcs.tasks.template import Example


def test_fingerprint_is_of_content(tmp_path: Path) -> None:
    rows = choice_rows(20)

    def fingerprint(name: str, rows: list[dict[str, Any]], **kwargs: Any) -> str:
        return read_task(file_task(name, write_jsonl(tmp_path / f"{name}.jsonl", rows), **kwargs)).fingerprint

    base = fingerprint("a", rows)
    assert base == fingerprint("b", random.Random(3).sample(rows, len(rows)))
    assert base == fingerprint("c", [{**row, "id": "other", "extra": 1} for row in rows])
    changed = [*rows[:-1], {**rows[-1], "label": (rows[-1]["label"] + 1) % 3}]
    others = [
        fingerprint("d", rows[:-1]),
        fingerprint("e", [*rows, rows[0]]),
        fingerprint("f", changed),
        fingerprint("g", rows, numbering="numbers"),
        fingerprint("h", rows, prompt="{question} {options}"),
        fingerprint("i", [{**row, "split": "test"} for row in rows]),
    ]
    assert len({base, *others}) == len(others) + 1


def test_fingerprint_stays(tmp_path: Path) -> None:
    """Scores are kept under it: a change here makes every stored score unreachable."""
    path = write_jsonl(tmp_path / "rows.jsonl", choice_rows(3))
    found = read_task(with_source(BUILTIN_TASKS["piqa"], path))
    assert found.fingerprint == "e7c40e411cf523f5027eb15a4a8c16e366c99fa05151eac71e977eb4cfe56d48"


@given(st.text(), st.text())
def test_rows_keep_the_ids_that_version_0_1_gave_them(prompt: str, answer: str) -> None:
    """It encoded with `surrogatepass`; a prompt or an answer with half a pair never came that far."""
    value = json.dumps([prompt, answer], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    wanted = hash_bytes("task-row", value.encode("utf-8", "surrogatepass"))
    assert example_id(Example(prompt, answer)) == wanted
