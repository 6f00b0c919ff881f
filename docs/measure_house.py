"""Measure the house: `python docs/measure_house.py [ROOT]` prints the table of docs/design/0010."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

LOADED = "import sys, {m}; print(sum(n.partition('.')[0] == 'deltavcs' for n in sys.modules))"


def trees(root: Path) -> Iterator[tuple[Path, ast.Module]]:
    """Every file of the library and the command line, parsed."""
    for path in sorted([*(root / "deltavcs").rglob("*.py"), *(root / "cli").rglob("*.py")]):
        yield path.relative_to(root), ast.parse(path.read_text())


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """Every function, methods included."""
    return (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef))


def n_parameters(function: ast.FunctionDef) -> int:
    """How many parameters a function has, `self` not counted."""
    a = function.args
    names = [x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def imports_inside(root: Path, package: str) -> int:
    """Imports between the files of one package."""
    found = 0
    for path, tree in trees(root):
        if path.parts[:2] != ("deltavcs", package):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"deltavcs.{package}"):
                found += 1
    return found


def unused_lines(root: Path) -> int:
    """Lines of functions and classes whose name occurs nowhere else in the library or the command line.

    Callbacks that transformers calls, and what `deltavcs.testing` has for tests, do not count.
    """
    words: Counter[str] = Counter()
    for path, _ in trees(root):
        words.update(re.findall(r"\w+", (root / path).read_text()))
    return sum(
        (node.end_lineno or 0) - node.lineno + 1
        for path, tree in trees(root)
        if path.parts[0] == "deltavcs" and path.parts[1] not in ("testing", "integrations")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("__")
        and words[node.name] == 1
    )


def measures(root: Path) -> Iterator[tuple[str, object]]:
    """Rows of the table."""
    all_trees = list(trees(root))
    library = [(p, t) for p, t in all_trees if p.parts[0] == "deltavcs"]
    rooms = {p.parts[1] for p, _ in library if len(p.parts) > 2}
    yield "rooms (packages of the library)", len(rooms)
    yield "files of the library", len(library)
    verbs = [p for p, _ in library if p.parts[1] == "porcelain" and p.name != "__init__.py"]
    yield "files in porcelain", len(verbs)
    yield "imports between files of porcelain", imports_inside(root, "porcelain")
    longest = max(
        ((f.end_lineno or 0) - f.lineno + 1, f"{p}:{f.name}") for p, t in all_trees for f in functions(t)
    )
    yield "longest function, lines", f"{longest[0]} ({longest[1]})"
    over = sum((f.end_lineno or 0) - f.lineno + 1 > 40 for _, t in all_trees for f in functions(t))
    yield "functions over 40 lines", over
    classes = [(p, n) for p, t in all_trees for n in ast.walk(t) if isinstance(n, ast.ClassDef)]
    sizes = [
        (sum(isinstance(m, ast.FunctionDef) and not m.name.startswith("__") for m in n.body), f"{p}:{n.name}")
        for p, n in classes
    ]
    yield "largest class, methods", "{} ({})".format(*max(sizes))
    wide = max(
        (n_parameters(f), f"{p}:{f.name}") for p, t in library for f in functions(t) if f.name[0] != "_"
    )
    yield "widest public signature of the library", "{} ({})".format(*wide)
    public = [f for _, t in library for f in functions(t) if f.name[0] != "_"]
    yield "public functions with more than 8 parameters", sum(n_parameters(f) > 8 for f in public)
    yield "lines whose name occurs nowhere else", unused_lines(root)
    for path in verbs:
        module = ".".join(path.with_suffix("").parts)
        done = subprocess.run(
            [sys.executable, "-c", LOADED.format(m=module)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": f"{root}:{root / 'cli'}"},
            cwd="/",
        )
        count = int(done.stdout)
        yield f"modules loaded by {module}", f"{count} ({count / len(library):.0%})"


if __name__ == "__main__":
    for name, value in measures(Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()):
        print(f"| {name} | {value} |")
