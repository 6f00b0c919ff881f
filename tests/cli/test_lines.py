"""Graphs, tables and numbers, as text."""

import random
from itertools import pairwise

import pytest

from dvx import text
from dvx.graph import Node, draw
from dvx.table import Column, table


def drawn(history, **kwargs):
    nodes = [Node(key, parents, not parents, key) for key, parents in history]
    return [f"{lines}  {label}".rstrip() for lines, label in draw(nodes, **kwargs)]


def test_a_line():
    assert drawn([("b", ["a"]), ("a", [])]) == ["○  b", "◆  a"]


def test_a_transfer():
    history = [("v2+chat", ["v2", "chat"]), ("other", ["v1"]), ("chat", ["v1"]), ("v2", []), ("v1", [])]
    assert drawn(history) == [
        "○  v2+chat",
        "├─╮",
        "│ │ ○  other",
        "│ ○ │  chat",
        "│ ╰─┤",
        "◆   │  v2",
        "    ◆  v1",
    ]


def test_many_parents_and_lines_that_cross():
    history = [("m", ["a", "b", "c"]), ("x", ["a"]), ("b", ["r"]), ("a", ["r"]), ("c", ["r"]), ("r", [])]
    assert drawn(history) == [
        "○  m",
        "├─┬─╮",
        "│ │ │ ○  x",
        "├─│─│─╯",
        "│ ○ │  b",
        "○ │ │  a",
        "╰─┤ │",
        "  │ ○  c",
        "  ├─╯",
        "  ◆  r",
    ]


def test_ascii():
    assert drawn([("m", ["a", "b"]), ("b", ["a"]), ("a", [])], ascii_only=True) == [
        "o  m", "+-.", "| o  b", "+-'", "*  a",
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(30))
def test_every_line_leads_somewhere(seed):
    """In any history, strokes meet: what goes down in a row goes up in the next."""
    rng = random.Random(seed)
    keys = [f"k{i}" for i in range(30)]
    history = []
    for i, key in enumerate(keys):
        later = keys[i + 1 :]
        history.append((key, rng.sample(later, min(len(later), rng.choice([0, 1, 1, 1, 2, 3, 5])))))
    down = set("│├┤┬┼╭╮╷○")
    up = set("│├┤┴┼╰╯╵○◆")
    rows = [lines for lines, _ in draw([Node(k, p, not p, k) for k, p in history])]
    for above, below in pairwise(rows):
        for at, c in enumerate(above):
            if c in down and at % 2 == 0:
                assert at < len(below) and below[at] in up, (above, below)
    assert sum(r.count("○") + r.count("◆") for r in rows) == len(keys)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1048575, "1.0 MiB"), (15 << 30, "15.0 GiB")],
)
def test_sizes(value, shown):
    assert text.size(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0, "0%"),
        (1, "100%"),
        (0.00001, "<0.1%"),
        (0.99999, ">99.9%"),
        (0.1234, "12.3%"),
        (1.5, "150.0%"),
    ],
)
def test_percents(value, shown):
    assert text.percent(value) == shown


def test_numbers():
    assert [text.number(x) for x in (None, 0, 0.035, 1.44, 123.4)] == ["-", "0", "0.0350", "1.44", "123"]
    assert text.ratio(1000, 10) == "100 times smaller"
    assert text.ratio(10, 9) == text.ratio(10, 0) == ""


def test_clipping():
    assert text.clip("model.layers.0.weight", 11, middle=True) == "model.…ight"
    assert text.clip("message", 4) == "mes…"
    assert text.clip("日本語", 4) == "日…"


def test_a_table_gives_way_where_it_may():
    columns = [Column("name", least=6), Column("n", right=True), Column("date", spare=True)]
    rows = [("a-long-name-indeed", "1", "2026-01-01"), ("b", "1000", "2026-01-02")]
    wide = list(table(columns, rows, width=None))
    assert [len(line.rstrip()) for line in wide[1:]] == [36, 36]
    narrow = list(table(columns, rows, width=20))
    assert "2026" not in "".join(narrow)
    assert max(text.width_of(line) for line in narrow[1:]) <= 20


def test_times():
    assert text.iso(0) == "1970-01-01T00:00:00.000000Z"
    assert text.iso(1_700_000_000_123_456) == "2023-11-14T22:13:20.123456Z"
    assert text.iso(-5) is None
    assert text.when(2**62) == "-"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("a word that fits", ["a word that fits"]),
        ("all of these words are too many", ["all of these words", "  are too many"]),
        ("  and indented lines stay so", ["  and indented lines", "    stay so"]),
        ("averyveryverylongnameindeed is it", ["averyveryverylongnameindeed", "  is it"]),
        ("a row  of a table  stays as it is", ["a row  of a table  stays as it is"]),
        ("next: dvx checkout some-name -o DIR", ["next: dvx checkout some-name -o DIR"]),
        ("\x1b[33mwarning:\x1b[0m of a few words", ["\x1b[33mwarning:\x1b[0m of a few", "  words"]),
    ],
)
def test_lines_break_between_words(line, shown):
    assert text.fitted(line, 20) == shown
