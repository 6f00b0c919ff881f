"""Which room may speak to which library. A dependency that has no line here is forbidden everywhere."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

# A room is a folder or a module directly below `deltavcs/`; all of the command line is `dvx`.
ALLOWED = {
    "blake3": {"maintenance", "objects", "oid", "storage", "testing"},
    "click": {"dvx"},
    "duckdb": {"index", "tasks"},
    "huggingface_hub": {"storage"},
    "numpy": {
        "adapters", "checkpoint", "codec", "index", "merging", "objects", "operators", "porcelain", "tensors",
        "testing",
    },
    "pathspec": {"checkpoint"},
    "peft": {"evaluation"},
    "rich": {"dvx"},
    "safetensors": {"checkpoint"},
    "torch": {"checkpoint", "dvx", "evaluation", "merging", "porcelain", "skeleton"},
    "transformers": {"integrations", "skeleton"},
    "xxhash": {"objects"},
    "zstandard": {"codec", "objects"},
}  # fmt: skip


def _room(path: Path) -> str:
    inside = path.relative_to(ROOT)
    return "dvx" if inside.parts[0] == "cli" else inside.with_suffix("").parts[1]


def _imported(path: Path) -> Iterator[str]:
    """Top-level packages that a module imports, at its head or in a function; not those of type checking."""
    tree = ast.parse(path.read_text())
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0]


def _use() -> dict[str, set[str]]:
    own = {"deltavcs", "dvx", *sys.stdlib_module_names}
    found: dict[str, set[str]] = {}
    for path in [*(ROOT / "deltavcs").rglob("*.py"), *(ROOT / "cli").rglob("*.py")]:
        for package in set(_imported(path)) - own:
            found.setdefault(package, set()).add(_room(path))
    return found


def test_every_dependency_is_used_where_it_may_be() -> None:
    assert {package: sorted(rooms) for package, rooms in sorted(_use().items())} == {
        package: sorted(rooms) for package, rooms in sorted(ALLOWED.items())
    }
