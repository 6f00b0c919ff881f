from __future__ import annotations

from deltavcs.tasks.catalog import BUILTIN_TASKS
from deltavcs.tasks.reading import render_row


def test_arc_keeps_the_numbers_of_rows_that_have_them() -> None:
    row = {
        "question": "Which is a gas?",
        "choices": {"text": ["iron", "oxygen", "salt"], "label": ["1", "2", "3"]},
        "answerKey": "2",
    }
    example = render_row(BUILTIN_TASKS["arc_easy"], row, origin="row 1")
    assert example.prompt.endswith("1. iron\n2. oxygen\n3. salt")
    assert example.answer == "2"
