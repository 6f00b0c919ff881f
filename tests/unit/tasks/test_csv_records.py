from __future__ import annotations

import csv
import io
import random
from pathlib import Path

import pytest
from task_rows import refused

from deltavcs.tasks.row_lines import RowLimits
from deltavcs.tasks.rows import read_rows


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
