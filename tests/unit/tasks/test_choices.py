"""Labels and options: what each spelling means, and what is refused because it could mean two things."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deltavcs.errors import InvalidInputError
from deltavcs.tasks.catalog import BUILTIN_TASKS
from deltavcs.tasks.definition import Task, file_task, with_source
from deltavcs.tasks.reading import read_task, render_row

LETTERED = {"text": ["p", "q", "r", "s"], "label": ["A", "B", "C", "D"]}


NUMBERED = {"text": ["p", "q", "r", "s"], "label": ["1", "2", "3", "4"]}


def answer(task: Task, **columns: Any) -> str:
    return render_row(task, {"question": "which?", **columns}, origin="t:1").answer


def refusal(task: Task, **columns: Any) -> str:
    with pytest.raises(InvalidInputError) as caught:
        answer(task, **columns)
    return str(caught.value)


@pytest.mark.parametrize("name", ["winogrande", "socialiqa", "own"])
def test_digits_are_positions_where_options_are_numbered(name: str) -> None:
    task = file_task("own", Path("x"), numbering="numbers") if name == "own" else BUILTIN_TASKS[name]
    choices = ["p", "q", "r"]
    for position in range(3):
        for label in (position, str(position), f" {position} ", f"0{position}"):
            assert answer(task, choices=choices, label=label) == str(position + 1)
    for label in (3, "3", -1, "9" * 5000):
        assert "but there are 3 options (counted from 0)" in refusal(task, choices=choices, label=label)
    assert "not one of ['1', '2', '3']" in refusal(task, choices=choices, label="-1")


@pytest.mark.parametrize("name", ["winogrande", "arc_easy", "hellaswag", "piqa"])
def test_normalised_rows_mean_the_same_as_text_in_csv(tmp_path: Path, name: str) -> None:
    rows = [{"question": f"{i}?", "choices": ["p", "q"], "label": i % 2} for i in range(4)]
    jsonl, table = tmp_path / "t.jsonl", tmp_path / "t.csv"
    jsonl.write_text("".join(json.dumps(row) + "\n" for row in rows))
    cells = [f'{row["question"]},"[""p"", ""q""]",{row["label"]}\n' for row in rows]
    table.write_text("question,choices,label\n" + "".join(cells))
    found = [read_task(with_source(BUILTIN_TASKS[name], path)) for path in (jsonl, table)]
    assert found[0].examples == found[1].examples
    assert len({example.answer for example in found[0].examples}) == 2


def test_letters_are_labels() -> None:
    assert answer(file_task("t", Path("x")), choices=["p", "q"], label="B") == "B"
    assert answer(BUILTIN_TASKS["piqa"], choices=["p", "q"], label="B") == "B"
    assert answer(file_task("t", Path("x")), choices=["p", "q"], answerKey="B") == "B"


@pytest.mark.parametrize("task", [BUILTIN_TASKS["arc_easy"], file_task("t", Path("x"))], ids=["arc", "own"])
def test_answer_key_is_one_of_the_rows_labels_and_nothing_else(task: Task) -> None:
    assert answer(task, choices=LETTERED, answerKey="C") == "C"
    assert answer(task, choices=NUMBERED, answerKey="3") == "3"
    assert answer(task, choices=NUMBERED, answerKey=3) == "3"
    for key in ("3", 3, "0", 0, "E", "c"):
        assert "is not one of ['A', 'B', 'C', 'D']" in refusal(task, choices=LETTERED, answerKey=key)
    for key in ("0", 0, "5", 5, "A", -1):
        assert "is not one of ['1', '2', '3', '4']" in refusal(task, choices=NUMBERED, answerKey=key)
    for key in (True, 3.0, ["C"]):
        assert "not one of" in refusal(task, choices=NUMBERED, answerKey=key)
    assert "may have no answers" in refusal(task, choices=NUMBERED, answerKey=" ")


def test_answer_key_does_not_count_options_that_have_no_labels_of_their_own() -> None:
    task = file_task("t", Path("x"))
    assert "'1' is not one of ['A', 'B']" in refusal(task, choices=["p", "q"], answerKey=1)


def test_label_beside_labels_of_the_rows_own() -> None:
    task = file_task("t", Path("x"))
    assert answer(task, choices=LETTERED, label=2) == "C"
    assert answer(task, choices=LETTERED, label="2") == "C"
    assert answer(task, choices=LETTERED, label="D") == "D"
    assert answer(task, choices=NUMBERED, label=2) == "3"
    assert answer(task, choices=NUMBERED, label="2") == "2"
    assert "'0' is not one of" in refusal(task, choices=NUMBERED, label="0")


@pytest.mark.parametrize("empty", ["", "  ", "\n", "\u00a0"])
def test_an_empty_option_is_a_bad_row(empty: str) -> None:
    for task in (file_task("t", Path("x")), BUILTIN_TASKS["winogrande"], BUILTIN_TASKS["arc_easy"]):
        numbered = task.template.numbering == "numbers"
        reason = refusal(task, choices=["p", empty], label=0)
        assert f"option {'2' if numbered else 'B'} is empty" in reason
    row = {"goal": "g", "sol1": "p", "sol2": empty, "label": 0}
    with pytest.raises(InvalidInputError, match="t:1: option B is empty"):
        render_row(BUILTIN_TASKS["piqa"], row, origin="t:1")


def test_an_option_is_one_line() -> None:
    row = {"question": "which?", "choices": [" p\n q\t\tr ", "s\r\n\r\nt"], "label": 0}
    example = render_row(BUILTIN_TASKS["piqa"], row, origin="t:1")
    assert example.prompt.endswith("Options:\nA. p q r\nB. s t")


def test_options_that_are_no_finite_numbers() -> None:
    task = file_task("t", Path("x"))
    assert "NaN is not a number" in refusal(task, choices="[1, NaN]", label="0")
    assert "not finite" in refusal(task, choices=[1.0, float("inf")], label="0")
