"""`import deltavcs as dv`: the verbs of the package."""

from __future__ import annotations

import inspect
import pkgutil
import subprocess
import sys

import deltavcs


def test_no_package_is_called_like_a_public_verb() -> None:
    # Importing a subpackage stores it on its parent, where it would hide a verb of its name.
    packages = {module.name for module in pkgutil.iter_modules(deltavcs.__path__)}
    assert packages.isdisjoint(deltavcs.__all__)


def test_rank_can_be_called_as_documented() -> None:
    import deltavcs as dv

    inspect.signature(dv.rank).bind("repo", task="piqa", k=2)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, deltavcs; print([m for m in ('numpy', 'torch', 'duckdb') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
