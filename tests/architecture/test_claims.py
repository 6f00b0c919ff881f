"""Sentences of `CONTRIBUTING.md` and of the page of the house that are about all of the code."""

from __future__ import annotations

import ast
import dataclasses
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

import deltavcs as dv

ROOT = Path(__file__).parents[2]
LIBRARY = sorted((ROOT / "deltavcs").rglob("*.py"))
TESTS = sorted(p for p in (ROOT / "tests").rglob("*.py") if "benchmarks" not in p.parts)
CLOCKS = {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time"}


def _name(path: Path) -> str:
    return path.relative_to(ROOT / "deltavcs").with_suffix("").as_posix().replace("/", ".")


def _caught(path: Path) -> set[str]:
    """Names of the errors that a module catches and does not raise again under another name."""
    handlers = (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ExceptHandler))
    return {
        name.id
        for handler in handlers
        for name in ast.walk(handler.type or ast.Name(""))
        if isinstance(name, ast.Name) and not isinstance(handler.body[-1], ast.Raise)
    }


def test_where_damage_is_caught() -> None:
    # Each with its reason, in docs/internals/architecture.md.
    assert {_name(p) for p in LIBRARY if "IntegrityError" in _caught(p)} == {
        "maintenance.check",
        "objects.packstore",
        "objects.planner",
        "objects.reader",
        "objects.transaction",
        "refs.refstore",
        "steps.refnames",
        "steps.same_weights",
    }
    # Any error: into a report, or because what failed is derived or can be named.
    assert {_name(p) for p in LIBRARY if "DeltaVCSError" in _caught(p)} == {
        "history.reachable",
        "maintenance.check",
        "ranking.candidates",
        "steps.recording",
        "steps.targets",
    }


@dataclasses.dataclass
class _Uses:
    """What of `time` and `tempfile` a module calls."""

    path: Path

    def __iter__(self) -> Iterator[str]:
        for node in ast.walk(ast.parse(self.path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id == "time" and node.attr in {*CLOCKS, "sleep"}:
                    yield node.attr
                if node.value.id == "tempfile":
                    yield node.value.id


def test_who_waits_and_who_uses_the_temporary_directory() -> None:
    assert {_name(p): {*_Uses(p)} for p in LIBRARY if {*_Uses(p)}} == {
        "evaluation.models": {"tempfile"},
        "identity": {"time_ns"},
        "index.database": {"monotonic", "sleep"},
        "index.lineage_index": {"monotonic", "sleep"},
    }


def _verbs() -> list[str]:
    return [n for n, home in dv._HOMES.items() if home.startswith("porcelain.") and n[0].islower()]


@pytest.mark.parametrize(
    "name", [n for n in _verbs() if n not in ("checkout", "load_model", "load_tokenizer")]
)
def test_verbs_return_frozen_dataclasses(name: str) -> None:
    verb = getattr(dv, name)
    returned = eval(verb.__annotations__["return"], verb.__globals__, _names_for_checking(verb.__module__))
    several = typing.get_origin(returned) is list
    kind = typing.get_args(returned)[0] if several else returned
    if name == "remove_task":
        assert returned is None
        return
    assert dataclasses.is_dataclass(kind), returned
    assert kind.__dataclass_params__.frozen


def _names_for_checking(module: str) -> dict[str, object]:
    """What a module imports for the type checker alone."""
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    guards = (n for n in ast.parse(path.read_text()).body if isinstance(n, ast.If))
    imports = [s for g in guards for s in g.body if isinstance(s, ast.ImportFrom)]
    names: dict[str, object] = {}
    exec(compile(ast.Module(imports, []), str(path), "exec"), names)
    return {k: v for k, v in names.items() if k != "__builtins__"}


# No test measures time: what is compared in an assertion never comes from a clock.


def _reads_clock(node: ast.AST, known: set[str]) -> bool:
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and part.id in known:
            return True
        of_a_module = isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name)
        if of_a_module and part.value.id == "time" and part.attr in CLOCKS:
            return True
    return False


def _from_clock(tree: ast.AST) -> set[str]:
    """Names of variables and functions whose values come from a clock."""
    known: set[str] = set()
    while True:
        before = len(known)
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and _reads_clock(node.value, known):
                known |= {n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
            if isinstance(node, ast.FunctionDef):
                returns = (n.value for n in ast.walk(node) if isinstance(n, ast.Return) and n.value)
                if any(_reads_clock(value, known) for value in returns):
                    known.add(node.name)
        if len(known) == before:
            return known


@pytest.mark.parametrize("path", TESTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_test_measures_time(path: Path) -> None:
    tree = ast.parse(path.read_text())
    known = _from_clock(tree)
    assertions = (n for n in ast.walk(tree) if isinstance(n, ast.Assert))
    assert not [n.lineno for n in assertions if _reads_clock(n.test, known)]
