"""What the command line prints: names on one line, any number of rows, streams that are closed."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from deltavcs.porcelain.import_ import import_base
from deltavcs.repo import init_repository
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import raw_tensor, write_checkpoint
from dvx.app import cli


@pytest.fixture
def one(tmp_path, sign):
    """A repository of one base, with a tensor whose name has a line break."""
    made = init_repository(tmp_path / "repo", sync=False)
    write_checkpoint(tmp_path / "base", {"a\nb": raw_tensor("F32", (4,)), "w": raw_tensor("F32", (2, 2))})
    import_base(made, str(tmp_path / "base"), draft=Draft(signature=sign()))
    return str(made.path.parent)


@pytest.mark.parametrize("words", [("log",), ("reflog",), ("du",), ("diff", "base", "base")])
def test_any_number_may_follow_n(one, words):
    done = CliRunner().invoke(cli, ["--repo", one, *words, "-n", "9" * 30])
    assert (done.exit_code, done.stderr) == (0, "")


@pytest.mark.parametrize("words", [("show", "base"), ("ls", "base"), ("diff", "base", "base")])
def test_a_name_stays_on_its_line(one, words):
    done = CliRunner().invoke(cli, ["--repo", one, *words])
    assert done.exit_code == 0
    assert "a\nb" not in done.stdout
    assert words[0] == "diff" or "a\\nb" in done.stdout


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_error(one, closed):
    line = f'"{sys.executable}" -m dvx --repo "{one}" log {closed}'
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
