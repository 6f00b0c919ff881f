"""Files of rows: every format gives the same, and what cannot be read is told with file and line."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest
from task_rows import bad_task_message, choice_rows, write_jsonl

from deltavcs.advice import Advice
from deltavcs.errors import InvalidInputError
from deltavcs.tasks.definition import file_task
from deltavcs.tasks.reading import read_task
from deltavcs.tasks.row_lines import RowLimits
from deltavcs.tasks.rows import SUFFIXES, read_rows


def test_jsonl_parquet_and_csv_give_the_same_task(tmp_path: Path) -> None:
    rows = choice_rows(5)
    jsonl = write_jsonl(tmp_path / "rows.jsonl", rows)
    parquet, csv = tmp_path / "rows.parquet", tmp_path / "rows.csv"
    duckdb.sql(f"COPY (SELECT * FROM read_json('{jsonl}')) TO '{parquet}' (FORMAT parquet)")
    lines = ["question,choices,label"]
    for row in rows:
        cell = json.dumps(row["choices"]).replace('"', '""')
        lines.append(f'{row["question"]},"{cell}",{row["label"]}')
    csv.write_text("\n".join(lines) + "\n")
    found = [read_task(file_task("t", path)) for path in (jsonl, parquet, csv)]
    assert found[0].examples == found[1].examples == found[2].examples
    assert len({rows.fingerprint for rows in found}) == 1
    assert found[0].examples[1].prompt == "t question 1?\nA. x1\nB. y1\nC. z1\nAnswer:"
    assert found[0].examples[1].answer == "B"
    assert found[0].origins[1] == f"{jsonl}:2"
    assert found[1].origins[1] == f"{parquet} row 2"


def test_lines_are_read_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    text = "q\"'\\ , ; | \t tab \u2028 \x85 ☃ " + "long " * 50_000
    path.write_bytes(
        b"\xef\xbb\xbf" + json.dumps({"prompt": text, "answer": 1.5}).encode() + b"\r\n\r\n"
        b'{"prompt":"last","answer":"no newline"}'
    )
    rows = list(read_rows(path))
    assert [row.columns for row in rows] == [
        {"prompt": text, "answer": 1.5},
        {"prompt": "last", "answer": "no newline"},
    ]
    assert rows[1].origin == f"{path}:3"


def test_glob_characters_in_a_name_are_literal(tmp_path: Path) -> None:
    folder = tmp_path / "k=v"
    folder.mkdir()
    write_jsonl(folder / "a1.jsonl", [{"prompt": "wrong", "answer": "x"}])
    path = write_jsonl(folder / "a[1]*?.jsonl", [{"prompt": "right", "answer": "x"}])
    (row,) = read_rows(path)
    assert row.columns == {"prompt": "right", "answer": "x"}


def test_limits(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", choice_rows(5))
    assert "more than 4 rows" in bad_task_message(file_task("t", path), limits=RowLimits(max_rows=4))
    assert "the limit is 10" in bad_task_message(file_task("t", path), limits=RowLimits(max_file_bytes=10))
    long = write_jsonl(tmp_path / "long.jsonl", [{"prompt": "x" * 100_000, "answer": "x"}])
    assert str(long) in bad_task_message(file_task("t", long), limits=RowLimits(max_row_bytes=1000))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", b"", "no rows"),
        ("a.jsonl", b"\n\n", "no rows"),
        ("a.txt", b"x", "unknown kind of file"),
        ("a.parquet", b"not parquet at all", "a.parquet"),
        ("a.jsonl", b'{"prompt": "\xff\xfe", "answer": "x"}\n', "a.jsonl"),
    ],
)
def test_files_that_hold_no_rows(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert reason in bad_task_message(file_task("t", path))


def test_an_unknown_kind_of_file_says_which_are_known(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError) as caught:
        list(read_rows(tmp_path / "a.txt"))
    assert (caught.value.advice, caught.value.facts) == (Advice.ROW_FILES, {"suffixes": ", ".join(SUFFIXES)})


def test_parquet_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    duckdb.sql(f"COPY (SELECT 'x' AS prompt, 'nan'::DOUBLE AS answer, 'y' AS other) TO '{path}'")
    with pytest.raises(InvalidInputError, match="row 1: column 'answer' is null"):
        read_task(file_task("t", path))
    assert read_task(file_task("t", path, answer="{other}")).examples[0].answer == "y"
