"""`import deltavcs as dv`: the verbs of the package."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest


@pytest.mark.parametrize("name", ["lineage", "merge", "rank"])
def test_verbs_stay_verbs_when_subpackages_of_their_name_are_imported(name: str) -> None:
    code = f"""
import deltavcs as dv
before = dv.{name}
import deltavcs.{name}
from deltavcs.{name} import __name__ as inner
assert inner == "deltavcs.{name}"
assert dv.{name} is before
assert callable(before)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rank_can_be_called_as_documented() -> None:
    import deltavcs as dv

    inspect.signature(dv.rank).bind("repo", task="piqa", k=2)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, deltavcs; print([m for m in ('numpy', 'torch', 'duckdb') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
