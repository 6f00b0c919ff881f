"""Local files: what is read, and that whatever is wrong is told with file, line and reason."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path

import duckdb
import pytest

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.tasks.definition import file_task, read_task
from deltavcs.tasks.rows import RowLimits, parse_json, read_rows

GOOD = b'{"prompt": "x", "answer": "y"}\n'


def refused(path: Path, content: bytes, *, limits: RowLimits | None = None) -> InvalidInputError:
    path.write_bytes(content)
    with pytest.raises(InvalidInputError) as caught:
        read_task(file_task("t", path), limits=limits or RowLimits())
    assert caught.value.kind is ErrorKind.BAD_TASK
    return caught.value


# -- lines --------------------------------------------------------------------------------------------


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
    assert broken.hint == "save the file as UTF-8"


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


# -- JSON ---------------------------------------------------------------------------------------------


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
        assert parse_json(json.dumps(value)) == value


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"prompt": "a \ud800 b", "answer": "x"}, "prompt"),
        ({"prompt": "x", "answer": "\udc00"}, "answer"),
        ({"question": "x", "choices": ["a", "\ud83d"], "label": 0}, "prompt"),
    ],
)
def test_half_a_surrogate_pair_is_a_bad_row(tmp_path: Path, row: dict[str, object], name: str) -> None:
    path = tmp_path / "t.jsonl"
    error = refused(path, GOOD + json.dumps(row).encode() + b"\n")
    assert str(error).startswith(f"{path}:2: the {name} holds \\ud")
    str(error).encode()  # can be printed


def test_a_whole_surrogate_pair_is_a_character(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"prompt": "\\ud83d\\ude00", "answer": "x"}')
    assert read_task(file_task("t", path)).examples[0].prompt == "😀"


# -- CSV ----------------------------------------------------------------------------------------------


def csv_rows(path: Path, text: str) -> list[dict[str, object]]:
    path.write_bytes(text.encode())
    return [dict(row.columns) for row in read_rows(path)]


def test_the_delimiter_goes_by_the_suffix(tmp_path: Path) -> None:
    assert csv_rows(tmp_path / "a.csv", "p;q,r\n1;2\t3,4\n") == [{"p;q": "1;2\t3", "r": "4"}]
    assert csv_rows(tmp_path / "a.tsv", "p\tq\na,b;c\td\n") == [{"p": "a,b;c", "q": "d"}]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_as_it_is_written(tmp_path: Path, end: str) -> None:
    lines = [
        '\ufeff,prompt,"the answer"',
        '0,"a, ""b""",c',
        "",
        f'1,"two{end}{end}lines,""",',
        '2, 5" pipe ,""',
        '3,"a ""quoted"" word",☃',
    ]
    found = csv_rows(tmp_path / "a.csv", end.join(lines))
    assert found == [
        {"prompt": 'a, "b"', "the answer": "c"},
        {"prompt": f'two{end}{end}lines,"', "the answer": None},
        {"prompt": ' 5" pipe ', "the answer": None},
        {"prompt": 'a "quoted" word', "the answer": "☃"},
    ]
    origins = [row.origin for row in read_rows(tmp_path / "a.csv")]
    assert origins == [f"{tmp_path}/a.csv:{line}" for line in (2, 4, 7, 8)]


def test_csv_is_what_the_csv_module_writes(tmp_path: Path) -> None:
    draw = random.Random(5)
    names = ["a", "b", "c"]
    table = [["".join(draw.choices('xy", \t\n\r;', k=draw.randrange(8))) for _ in names] for _ in range(300)]
    for suffix, delimiter in ((".csv", ","), (".tsv", "\t")):
        file = io.StringIO(newline="")
        csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([names, *table])
        wanted = [{n: cell or None for n, cell in zip(names, row, strict=True)} for row in table]
        assert csv_rows(tmp_path / f"a{suffix}", file.getvalue()) == wanted


def test_long_cells_are_read(tmp_path: Path) -> None:
    lines = "line\n" * 100_000
    found = csv_rows(tmp_path / "a.csv", f'p,q\n"{lines}",{"," * 0}{"x" * 1_000_000}\n')
    assert found == [{"p": lines, "q": "x" * 1_000_000}]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("prompt,answer\nx,y\nx,y,z\n", 3, "3 cells, but the header names 2 columns"),
        ("prompt,answer\n\nx\n", 3, "1 cells, but the header names 2 columns"),
        ('prompt,answer\n"two\nlines",y\nx\n', 4, "1 cells"),
        ('prompt,answer\nx,y\n"z,y\nx,y\n', 3, "a quoted cell is never closed"),
        ('prompt,answer\nx,"y', 2, "a quoted cell is never closed"),
        ('prompt,answer\n"x" z,y\n', 2, "' z,y' follows a closing quote"),
        ("prompt,answer\rx,y\r", 1, "a carriage return that ends no line"),
        ("prompt,prompt\nx,y\n", 1, "the header names the column 'prompt' twice"),
        ("prompt;answer\nx;y\n", 2, "no column 'prompt' (columns: prompt;answer)"),
        ("prompt,answer\nx,\n", 2, "column 'answer' is null"),
    ],
)
def test_bad_csv_is_told_in_plain_words(tmp_path: Path, text: str, line: int, reason: str) -> None:
    path = tmp_path / "t.csv"
    error = refused(path, text.encode())
    assert str(error).startswith(f"{path}:{line}: ")
    assert reason in str(error)


def test_a_quote_that_swallows_the_file_stops_at_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    content = b'prompt,answer\n"x,y\n' + b"x,y\n" * 1000
    error = refused(path, content, limits=RowLimits(max_row_bytes=1000))
    assert str(error).startswith(f"{path}:2: a quoted cell is still open after 1000 bytes")


# -- Parquet ------------------------------------------------------------------------------------------


def test_parquet_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    duckdb.sql(f"COPY (SELECT 'x' AS prompt, 'nan'::DOUBLE AS answer, 'y' AS other) TO '{path}'")
    with pytest.raises(InvalidInputError, match="row 1: column 'answer' is null"):
        read_task(file_task("t", path))
    assert read_task(file_task("t", path, answer="{other}")).examples[0].answer == "y"
