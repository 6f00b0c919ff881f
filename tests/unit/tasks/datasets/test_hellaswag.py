from __future__ import annotations

import pytest

from deltavcs.tasks.catalog import BUILTIN_TASKS
from deltavcs.tasks.datasets.hellaswag import read_hellaswag
from deltavcs.tasks.reading import render_row


def test_hellaswag_drops_wikihow_marks() -> None:
    row = {
        "activity_label": "Health",
        "ctx_a": "[header] How to rest [title] Lie down. [step] Close your eyes.",
        "ctx_b": "",
        "endings": ["[substeps] Breathe. [title] Sleep.", "Run.", "Shout.", "Dig."],
        "label": "1",
    }
    example = render_row(BUILTIN_TASKS["hellaswag"], row, origin="row 1")
    assert "Start: Health: How to rest. Lie down. Close your eyes.\n" in example.prompt
    assert "A. Breathe.. Sleep.\n" in example.prompt
    assert "[" not in example.prompt


@pytest.mark.parametrize(
    ("ctx_b", "end"),
    [("in Paris, the UN", "In Paris, the UN"), ("éa B", "Éa B"), ("X", "X"), ("", ""), (None, "")],
)
def test_hellaswag_makes_one_letter_a_capital(ctx_b: str | None, end: str) -> None:
    row = {"activity_label": "L", "ctx_a": "A man.", "ctx_b": ctx_b, "endings": ["p", "q"], "label": "0"}
    assert read_hellaswag(row, "letters").fields["question"] == f"L: A man. {end}".strip()
