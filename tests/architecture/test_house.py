"""Rules of the house that no linter knows. `CONTRIBUTING.md` has them in words."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = sorted((ROOT / "deltavcs").rglob("*.py"))
CODE = [*LIBRARY, *sorted((ROOT / "cli").rglob("*.py"))]

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_METHODS = 15
MAX_PARAMETERS = 8

# Who acts, where the user is at home, and what time it is: asked by `identity`, and passed on from there.
SURROUNDINGS = {
    ("os", "environ"),
    ("os", "getenv"),
    ("os", "getlogin"),
    ("getpass", "getuser"),
    ("Path", "home"),
    ("Path", "cwd"),
    ("os", "getcwd"),
    ("time", "time"),
    ("time", "time_ns"),
    ("datetime", "now"),
    ("datetime", "today"),
}
COMMAND = re.compile(r"\bdvx [a-z]{2,}|(?<![\w-])--[a-z][a-z-]+")


def _ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def _classes(tree: ast.AST) -> Iterator[ast.ClassDef]:
    yield from (n for n in ast.walk(tree) if isinstance(n, ast.ClassDef))


def _calls_of_surroundings(tree: ast.AST) -> list[str]:
    return [
        f"{node.lineno}: {node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in SURROUNDINGS
    ]


# Integrations run in a user's program, and are started by its names and its folders.
@pytest.mark.parametrize("path", [p for p in LIBRARY if "integrations" not in p.parts], ids=_ids)
def test_only_identity_asks_who_and_when(path: Path) -> None:
    found = _calls_of_surroundings(ast.parse(path.read_text()))
    assert bool(found) == (path.name == "identity.py"), found


@pytest.mark.parametrize("path", LIBRARY, ids=_ids)
def test_the_library_prints_nothing_and_asks_nothing(path: Path) -> None:
    calls = (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call))
    assert not [c.lineno for c in calls if isinstance(c.func, ast.Name) and c.func.id in ("print", "input")]


@pytest.mark.parametrize("path", LIBRARY, ids=_ids)
def test_the_library_speaks_of_parameters_and_not_of_options(path: Path) -> None:
    texts = (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant))
    shown = [(n.lineno, n.value) for n in texts if isinstance(n.value, str)]
    # A verb's module says which command shows it, and nothing else does.
    title = "porcelain" in path.parts
    assert not [(i, t[:80]) for i, t in shown if COMMAND.search(t) and not (title and i == 1)]


@pytest.mark.parametrize("path", CODE, ids=_ids)
def test_sizes(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= MAX_FILE_LINES
    for function in _functions(tree):
        length = (function.end_lineno or 0) - function.lineno + 1
        assert length <= MAX_FUNCTION_LINES, f"{function.name} has {length} lines"
    for kind in _classes(tree):
        methods = [n for n in kind.body if isinstance(n, ast.FunctionDef) and not _is_special(n.name)]
        assert len(methods) <= MAX_METHODS, f"{kind.name} has {len(methods)} methods"


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


@pytest.mark.parametrize("path", LIBRARY, ids=_ids)
def test_what_belongs_together_travels_together(path: Path) -> None:
    for function in _functions(ast.parse(path.read_text())):
        given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        names = [a.arg for a in given if a.arg not in ("self", "cls")]
        assert function.name.startswith("_") or len(names) <= MAX_PARAMETERS, (function.name, names)


def test_nothing_is_kept_for_its_tests() -> None:
    words: Counter[str] = Counter()
    for path in CODE:
        words.update(re.findall(r"\w+", path.read_text()))
    # What transformers calls, and what helps the tests.
    kept = [p for p in LIBRARY if not {"integrations", "testing"} & {*p.parts}]
    trees = [ast.parse(p.read_text()) for p in kept]
    defined = {n.name for tree in trees for n in (*_functions(tree), *_classes(tree))}
    assert not {name for name in defined if words[name] == 1 and not _is_special(name)}


def test_a_verb_has_one_command_and_its_name() -> None:
    """Each module of porcelain has a command of its name; those without one are for programs."""
    verbs = {p.stem for p in (ROOT / "deltavcs/porcelain").glob("*.py")} - {"__init__"}
    commands = {p.stem for p in (ROOT / "cli/dvx/commands").glob("*.py")} - {"__init__"}
    assert verbs - commands == {"load", "rank_deltas"}  # models for Python; `rank --deltas`
    assert commands - verbs == {"init"}  # `dv.init` makes what all verbs work in
