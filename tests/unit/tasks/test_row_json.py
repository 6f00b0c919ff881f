from __future__ import annotations

import json
from pathlib import Path

import pytest
from task_rows import GOOD, refused

from deltavcs.tasks.row_json import parse_row_json


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("NaN", "NaN is not a number that JSON has"),
        ("Infinity", "Infinity is not a number"),
        ("-Infinity", "-Infinity is not a number"),
        ("1e400", "the number 1e400 is too large"),
        ("-1e400", "the number -1e400 is too large"),
        ("9" * 5000, "a number of 5000 digits; the limit is 400"),
        ('"a", "answer": "b"', "the key 'answer' is there twice"),
        ('"a", "extra": {"b": 1, "b": 2}', "the key 'b' is there twice"),
    ],
)
def test_numbers_and_keys_that_json_does_not_have(tmp_path: Path, answer: str, reason: str) -> None:
    path = tmp_path / "t.jsonl"
    error = refused(path, GOOD + f'{{"prompt": "x", "answer": {answer}}}\n'.encode())
    assert str(error).startswith(f"{path}:2: ")
    assert reason in str(error)


def test_strict_json_reads_what_json_reads() -> None:
    for value in ({"a": [1, -2.5, 1e300, True, None, {"b": "c"}], "d": {}}, [], 7, 10**300):
        assert parse_row_json(json.dumps(value)) == value
