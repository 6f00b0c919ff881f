"""Every kind of checkpoint that people have is right, or refused in words: docs/compatibility.md."""

from __future__ import annotations

from pathlib import Path

import page
import pytest
from cells import WRONG

_PAGE = (Path(__file__).parents[2] / "docs" / "compatibility.md").read_text()
_KINDS = [kind for _, kinds in page.all_kinds() for kind in kinds]


@pytest.mark.parametrize("kind", _KINDS, ids=lambda kind: kind.name)
def test_a_kind_is_right_or_refused_as_the_page_says(kind):
    cells = page.run(kind)
    wrong = {name: cell.against for name, cell in cells.items() if cell.outcome == WRONG}
    assert wrong == {}
    reasons = _reasons()
    known = list(reasons)
    assert page.row(kind, cells, reasons) in _PAGE
    assert reasons == known


def _reasons() -> list[str]:
    listed = _PAGE.partition("## Why\n\n")[2].splitlines()
    return [line.partition(". ")[2] for line in listed]


def test_the_page_has_every_kind_once():
    rows = [line for line in _PAGE.splitlines() if line.count("|") > 8 and not line.startswith("|---")]
    names = [line.split(" | ")[0].removeprefix("| ") for line in rows]
    assert [n for n in names if n.strip("| ")] == [kind.name for kind in _KINDS]
