from __future__ import annotations

from pathlib import Path

import pytest
from task_rows import GOOD, refused

from deltavcs.advice import Advice
from deltavcs.tasks.row_lines import RowLimits
from deltavcs.tasks.rows import read_rows


@pytest.mark.parametrize(
    ("name", "head", "line"),
    [
        ("t.jsonl", GOOD + b"\n", 3),
        ("t.csv", b"prompt,answer\nx,y\n\n", 4),
        ("t.tsv", b"prompt\tanswer\n", 2),
    ],
)
def test_lines_too_long_or_not_utf8_are_named(tmp_path: Path, name: str, head: bytes, line: int) -> None:
    path = tmp_path / name
    long = refused(path, head + b"x" * 2000 + b"\n", limits=RowLimits(max_row_bytes=1000))
    assert str(long) == f"{path}:{line}: the line is longer than 1000 bytes, which is the limit"
    broken = refused(path, head + b"na\xef,y\n")
    assert str(broken) == f"{path}:{line}: not UTF-8: byte 3 of the line is 0xef"
    assert broken.advice is Advice.SAVE_AS_UTF8


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_the_limit_is_of_the_line_without_its_end(tmp_path: Path, end: bytes) -> None:
    line = GOOD.strip()
    path = tmp_path / "t.jsonl"
    path.write_bytes(line + end)
    assert len(list(read_rows(path, limits=RowLimits(max_row_bytes=len(line))))) == 1
    refused(path, line + end, limits=RowLimits(max_row_bytes=len(line) - 1))


def test_utf16_is_told_not_guessed(tmp_path: Path) -> None:
    error = refused(tmp_path / "t.csv", "prompt,answer\nx,y\n".encode("utf-16"))
    assert ":1: not UTF-8" in str(error)
