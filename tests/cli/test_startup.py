"""Start-up: what is imported, and what is read."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "huggingface_hub", "rich", "safetensors.torch", "asyncio")
_MODULES = """
import sys
sys.argv = ["dvx", *sys.argv[1:]]
from dvx.app import cli
code = cli.run(sys.argv[1:])
print(code, *sorted(sys.modules), file=sys.stderr)
"""


def imported(*args):
    done = subprocess.run([sys.executable, "-c", _MODULES, *args], capture_output=True, text=True, check=True)
    code, *modules = done.stderr.split()
    assert code == "0", done
    return set(modules)


@pytest.mark.parametrize(
    "args",
    [("log",), ("log", "--graph"), ("log", "--json"), ("show", "chat"), ("ls",), ("branch",), ("reflog",)],
    ids=" ".join,
)
def test_looking_imports_nothing_heavy(repo, args):
    found = imported(*args)
    assert not found & {*HEAVY, "duckdb"}


@pytest.mark.parametrize("args", [("sql", "SELECT 1"), ("du",), ("fsck",)], ids=" ".join)
def test_the_index_does_without_torch(repo, args):
    assert not imported(*args) & set(HEAVY)


@pytest.mark.parametrize(
    "args", [("--help",), ("--version",), ("log", "--help"), ("merge", "--help")], ids=" ".join
)
def test_help_imports_no_library(folder, args):
    found = imported(*args)
    assert not found & {*HEAVY, "duckdb", "numpy", "blake3", "deltavcs.repo"}


_OPENED = """
import os, sys
opened = []
sys.addaudithook(lambda event, args: event == "open" and opened.append(str(args[0])))
from dvx.app import cli
code = cli.run(sys.argv[1:])
inside = [path.partition("/.dvx/")[2] for path in opened if "/.dvx/" in path]
print(code, *inside, file=sys.stderr)
"""


def opened(*args):
    done = subprocess.run([sys.executable, "-c", _OPENED, *args], capture_output=True, text=True, check=True)
    code, *paths = done.stderr.split()
    assert code == "0", done
    return paths


def test_log_of_a_thousand_commits_reads_each_once_and_nothing_else_of_size(folder, thousand):
    paths = opened("log")
    assert sum(path.startswith("objects/") for path in paths) == 1001
    assert len(paths) < 1020
    assert not [path for path in paths if path.startswith(("packs/", "index/", "locks/"))]
    assert sum(path.startswith("objects/") for path in opened("log", "-n", "5")) < 20


@pytest.fixture
def thousand(folder, dvx, models):
    """A run of a thousand commits of one manifest."""
    from dataclasses import replace

    from deltavcs.objects.model import Parent, Role
    from deltavcs.refs import branch_ref
    from deltavcs.refs.refstore import ABSENT
    from deltavcs.repo import open_repository
    from deltavcs.resources import Resources
    from deltavcs.signature import Signature

    dvx("init")
    dvx("import", models.v1)
    repo = open_repository(folder)
    tip = repo.resolve("v1")
    value = repo.commit(tip)
    with repo.objects.transaction(Resources(), level=1) as transaction:
        for i in range(1000):
            parents = (Parent(tip, Role.PREVIOUS),)
            draft = replace(value, parents=parents, message=f"step {i}", time=value.time + i + 1)
            tip = transaction.put_commit(draft)
        transaction.finish()
    repo.refs.move(branch_ref("run"), expected=ABSENT, new=tip, signature=Signature("x", 1))
    assert len(dvx("log").stdout.splitlines()) == 1001
    assert dvx("log", "-n", "3").stdout.splitlines()[2].startswith("run~2 ")
