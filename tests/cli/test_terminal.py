"""On a terminal and in a pipe."""

import os
import re

import pytest

COLOUR = "\x1b["


def test_colours_on_a_terminal_only(repo, process, terminal):
    assert COLOUR in terminal("log").text
    assert COLOUR not in process("log").stdout
    assert COLOUR not in terminal("log", env={"NO_COLOR": "1"}).text
    assert COLOUR not in terminal("log", env={"TERM": "dumb"}).text
    assert COLOUR in process("log", env={**os.environ, "FORCE_COLOR": "1"}).stdout


@pytest.mark.parametrize("columns", [40, 60, 100])
@pytest.mark.parametrize(
    "args", [("log",), ("log", "-g"), ("ls",), ("ls", "chat"), ("diff", "v1", "chat"), ("du",), ("reflog",)],
    ids=" ".join,
)  # fmt: skip
def test_tables_fit(repo, terminal, args, columns):
    shown = terminal(*args, columns=columns)
    assert shown.code == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown.text).splitlines()
    # Numbers and names are kept readable: below 60 columns a row may be a little wider.
    slack = 16 if columns < 60 else 0
    assert max(map(len, lines)) <= columns + slack


@pytest.mark.parametrize(
    "args",
    [("commit", "../models/chat", "--as", "v1"), ("merge", "v1", "nothing", "--as", "x"), ("transfer", "-h")],
    ids=" ".join,
)  # fmt: skip
def test_sentences_break_between_words(repo, terminal, process, args):
    shown = re.sub(r"\x1b\[[0-9;]*m", "", terminal(*args, columns=60).text).splitlines()
    assert max(map(len, shown)) <= (60 if "-h" not in args else 80)
    done = process(*args)
    if "-h" not in args:
        assert " ".join(" ".join(shown).split()) == " ".join((done.stdout + done.stderr).split())


def test_a_pipe_gets_whole_lines(repo, process):
    env = {**os.environ, "COLUMNS": "20"}
    assert "model.layers.0.self_attn.q_proj.weight" in process("ls", "chat", env=env).stdout


def test_ascii_graphs_where_the_terminal_knows_no_better(repo, process):
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = process("log", "--graph", env=env)
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert "+-." in done.stdout
    done = process("transfer", "--from", "chat", "--to", "v2", "--dry-run", env=env)
    assert done.returncode == 0
    assert process("log", "--graph").stdout.startswith("○  v2+chat")


def test_no_bar_in_a_pipe_nor_for_short_work(repo, process, terminal):
    assert process("diff", "v1", "chat").stderr == ""
    assert "working" not in terminal("diff", "v1", "chat").text


SLOW = """
import time
from dvx.progress import bar
with bar(enabled=True) as report:
    for i in range(25):
        report("storing", i << 20, 25 << 20)
        time.sleep(0.1)
print("done")
"""


def test_a_bar_for_long_work(folder, terminal):
    shown = terminal(program=SLOW).text
    assert "storing" in shown
    assert "MiB" in shown
    assert shown.rstrip().endswith("done")


SILENT = """
import time
from dvx.progress import bar
with bar(enabled=True):
    time.sleep(2)
"""


def test_a_bar_where_nothing_is_reported(folder, terminal):
    assert "working" in terminal(program=SILENT).text
