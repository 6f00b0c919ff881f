"""The tests mirror the house: a reader who knows a module knows where its unit tests are."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY, TESTS = ROOT / "deltavcs", ROOT / "tests"
UNIT = TESTS / "unit"
FILES = sorted(UNIT.rglob("test_*.py"))

# Unit tests that are about a room and not about one of its modules, and why.
OF_A_ROOM = {
    "merging/test_against_mergekit.py": "all methods, compared with another implementation",
    "objects/test_hostile.py": "whatever an enemy may put into a repository, read by all of the room",
    "operators/test_spec_vectors.py": "the vectors that the specification prints, of every operator",
}


def _name(path: Path) -> str:
    return path.relative_to(UNIT).as_posix()


def test_every_folder_of_unit_tests_is_a_room() -> None:
    folders = {path.relative_to(UNIT) for path in UNIT.rglob("*") if path.is_dir() and "__" not in path.name}
    assert not {f.as_posix() for f in folders if not (LIBRARY / f / "__init__.py").is_file()}


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_every_file_of_unit_tests_is_called_after_a_module(path: Path) -> None:
    room, module = path.relative_to(UNIT).parent, path.stem.removeprefix("test_")
    if _name(path) in OF_A_ROOM:
        return
    assert (LIBRARY / room / f"{module}.py").is_file(), f"deltavcs/{room} has no {module}.py"


def test_exceptions_are_needed() -> None:
    assert OF_A_ROOM.keys() <= {_name(path) for path in FILES}
    for name in OF_A_ROOM:
        assert not (LIBRARY / Path(name).parent / name.rpartition("/test_")[2]).is_file()


def test_every_room_has_unit_tests() -> None:
    rooms = {path.parent.name for path in LIBRARY.glob("*/__init__.py")}
    # Data, fakes for tests, and what is tested where the program that it serves is at hand.
    without = {"migrations", "testing", "integrations"}
    assert {room for room in rooms - without if not list((UNIT / room).glob("test_*.py"))} == set()


def test_no_file_is_called_after_the_occasion_of_its_writing() -> None:
    words = ("review", "regression", "issue", "misc")
    assert [p.name for p in TESTS.rglob("*.py") for w in words if w in p.relative_to(TESTS).as_posix()] == []


def test_what_lies_in_support_is_used() -> None:

    sources = {path: path.read_text(encoding="utf-8") for path in TESTS.rglob("*.py")}
    for shared in (TESTS / "support").glob("*.py"):
        lines = (f"from {shared.stem} import", f"import {shared.stem}")
        users = [path for path, text in sources.items() if path != shared and any(x in text for x in lines)]
        assert users, f"nobody uses {shared.name}"
