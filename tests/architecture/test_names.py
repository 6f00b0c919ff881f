"""One name, one thing: files and classes of the library; and classes that the glossary explains."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "deltavcs").rglob("*.py"))
GLOSSARY = (ROOT / "docs/glossary.md").read_text()

# What callers of the Python API and readers of the code meet before anything else.
EXPLAINED = (
    "Advice", "Bench", "Candidate", "Commit", "Draft", "Identity", "Kind", "Manifest", "Probe", "Recording",
    "Role", "Running", "Score", "Selection", "Signature", "Subject", "Target",
)  # fmt: skip


@cache
def classes() -> dict[str, list[str]]:
    """Where each class is defined, by name."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    return found


def test_no_two_files_have_the_same_name() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for path in FILES:
        if path.name != "__init__.py":
            found[path.name].append(str(path.relative_to(ROOT)))
    assert {name: where for name, where in found.items() if len(where) > 1} == {}


def test_no_two_classes_have_the_same_name() -> None:
    assert {name: where for name, where in classes().items() if len(where) > 1} == {}


@pytest.mark.parametrize("name", EXPLAINED)
def test_the_glossary_explains(name: str) -> None:
    assert name in classes()
    assert re.search(rf"^\| {name.lower()} \| \S", GLOSSARY, re.MULTILINE)


def test_the_glossary_explains_each_word_once() -> None:
    terms = re.findall(r"^\| ([a-z][^|]*?) \|.*\n(?!\|---)", GLOSSARY, re.MULTILINE)
    words = [word for term in terms for word in term.split(", ")]
    assert len(words) == len(set(words)) > 30
