"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = sorted((ROOT / "deltavcs").rglob("*.py"))
CODE = [*LIBRARY, *sorted((ROOT / "cli").rglob("*.py"))]

MAX_FILE_LINES = 800
MAX_FUNCTION_LINES = 80
MAX_METHODS = 25

# Calls that would tie a library to the program around it. Integrations are programs' own.
FORBIDDEN = {
    ("os", "environ"),
    ("os", "getenv"),
    ("os", "getlogin"),
    ("Path", "home"),
    ("time", "time"),
    ("time", "time_ns"),
    ("datetime", "now"),
    ("datetime", "today"),
}


def _ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [p for p in LIBRARY if "integrations" not in p.parts], ids=_ids)
def test_library_reads_neither_environment_nor_clock_and_prints_nothing(path: Path) -> None:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (node.value.id, node.attr) in FORBIDDEN:
                found.append(f"{node.lineno}: {node.value.id}.{node.attr}")
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("print", "input")
        ):
            found.append(f"{node.lineno}: {node.func.id}()")
    assert not found


@pytest.mark.parametrize("path", CODE, ids=_ids)
def test_sizes(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{node.name} has {length} lines"
        if isinstance(node, ast.ClassDef):
            methods = [n for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("__")]
            assert len(methods) <= MAX_METHODS, f"{node.name} has {len(methods)} methods"


def test_repository_is_small() -> None:
    tree = ast.parse((ROOT / "deltavcs" / "repo.py").read_text())
    (repository,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Repository")
    public = [n for n in repository.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]
    assert len(public) <= 10


def test_every_public_name_can_be_imported() -> None:
    import deltavcs

    for name in deltavcs.__all__:
        assert getattr(deltavcs, name) is not None


def test_pages_named_in_the_docs_exist() -> None:
    import re

    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)  # code holds no links
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            assert (page.parent / target).exists(), f"{page.name} names {target}"
