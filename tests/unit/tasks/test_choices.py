"""Labels and options: what each spelling means, and what is refused because it could mean two things."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deltavcs.errors import InvalidInputError
from deltavcs.tasks.choices import read_hellaswag, read_mathqa
from deltavcs.tasks.dataset_table import builtin_task
from deltavcs.tasks.definition import Task, file_task, read_task, render_row, with_source
from deltavcs.tasks.template import BadRow

LETTERED = {"text": ["p", "q", "r", "s"], "label": ["A", "B", "C", "D"]}
NUMBERED = {"text": ["p", "q", "r", "s"], "label": ["1", "2", "3", "4"]}


def answer(task: Task, **columns: Any) -> str:
    return render_row(task, {"question": "which?", **columns}, origin="t:1").answer


def refusal(task: Task, **columns: Any) -> str:
    with pytest.raises(InvalidInputError) as caught:
        answer(task, **columns)
    return str(caught.value)


# -- labels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["winogrande", "socialiqa", "own"])
def test_digits_are_positions_where_options_are_numbered(name: str) -> None:
    task = file_task("own", Path("x"), numbering="numbers") if name == "own" else builtin_task(name)
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
    found = [read_task(with_source(builtin_task(name), path)) for path in (jsonl, table)]
    assert found[0].examples == found[1].examples
    assert len({example.answer for example in found[0].examples}) == 2


def test_letters_are_labels() -> None:
    assert answer(file_task("t", Path("x")), choices=["p", "q"], label="B") == "B"
    assert answer(builtin_task("piqa"), choices=["p", "q"], label="B") == "B"
    assert answer(file_task("t", Path("x")), choices=["p", "q"], answerKey="B") == "B"


@pytest.mark.parametrize("task", [builtin_task("arc_easy"), file_task("t", Path("x"))], ids=["arc", "own"])
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


# -- options ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", ["", "  ", "\n", "\u00a0"])
def test_an_empty_option_is_a_bad_row(empty: str) -> None:
    for task in (file_task("t", Path("x")), builtin_task("winogrande"), builtin_task("arc_easy")):
        numbered = task.template.numbering == "numbers"
        reason = refusal(task, choices=["p", empty], label=0)
        assert f"option {'2' if numbered else 'B'} is empty" in reason
    row = {"goal": "g", "sol1": "p", "sol2": empty, "label": 0}
    with pytest.raises(InvalidInputError, match="t:1: option B is empty"):
        render_row(builtin_task("piqa"), row, origin="t:1")


def test_an_option_is_one_line() -> None:
    row = {"question": "which?", "choices": [" p\n q\t\tr ", "s\r\n\r\nt"], "label": 0}
    example = render_row(builtin_task("piqa"), row, origin="t:1")
    assert example.prompt.endswith("Options:\nA. p q r\nB. s t")


def test_options_that_are_no_finite_numbers() -> None:
    task = file_task("t", Path("x"))
    assert "NaN is not a number" in refusal(task, choices="[1, NaN]", label="0")
    assert "not finite" in refusal(task, choices=[1.0, float("inf")], label="0")


# -- HellaSwag ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ctx_b", "end"),
    [("in Paris, the UN", "In Paris, the UN"), ("éa B", "Éa B"), ("X", "X"), ("", ""), (None, "")],
)
def test_hellaswag_makes_one_letter_a_capital(ctx_b: str | None, end: str) -> None:
    row = {"activity_label": "L", "ctx_a": "A man.", "ctx_b": ctx_b, "endings": ["p", "q"], "label": "0"}
    assert read_hellaswag(row, "letters").fields["question"] == f"L: A man. {end}".strip()


# -- MathQA -------------------------------------------------------------------------------------------


def mathqa(options: str, correct: str = "a") -> list[str]:
    row = {"Problem": "p ?", "options": options, "correct": correct}
    return list(read_mathqa(row, "letters").choices)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("a ) ( a , b ) , b ) ( b , c ) , c ) x", ["( a , b )", "( b , c )", "x"]),
        ("a ) f ( x , b ) , b ) 2 , c ) 3", ["f ( x , b )", "2", "3"]),
        ("a ) 1 , b ) 2 , c ) f ( x , d )", ["1", "2", "f ( x , d )"]),
        ("a ) [ 2 , 5 ) , b ) ( 2 , 5 ] , c ) { 2 , 5 }", ["[ 2 , 5 )", "( 2 , 5 ]", "{ 2 , 5 }"]),
        ("a ) ( ( b ) , b ) , b ) 1 , 000 , c ) 3", ["( ( b ) , b )", "1 , 000", "3"]),
        ("a) 1,b) 2,c) 3,d) 4,e) g ( x , b )", ["1", "2", "3", "4", "g ( x , b )"]),
        # Brackets that do not match, as in the dataset itself.
        ("a ) 3 : 5 ) , b ) 2 : 3 , c ) 1", ["3 : 5 )", "2 : 3", "1"]),
        ("a ) ( 20 , b ) 30 , c ) 40", ["( 20", "30", "40"]),
        ("a ) 1 , b ) 2 , c ) [ 3 , d ) 4 , e ) 5", ["1", "2", "[ 3", "4", "5"]),
        ("a ) 1 , b ) ) 2 (", ["1", ") 2 ("]),
        ("['a ) 1', 'b ) f ( x , c )', 'c ) 3 )']", ["1", "f ( x , c )", "3 )"]),
    ],
)
def test_mathqa_options_are_split_outside_brackets(options: str, wanted: list[str]) -> None:
    assert mathqa(options) == wanted


@pytest.mark.parametrize(
    "options",
    [
        "a ) 3 : 5 ) , b ) ( x , b ) , c ) 1",  # which b?
        "a ) 1 , b ) 2 , c ) ( 3 , d ) 4",  # one bracket too many, or three options?
        "a ) ( 1 , b ) 2",
        "a ) 1 , b ) 2 , d ) 3",  # c is missing
        "a ) 1 , b ) 2 , b ) 3",
        "a ) 1 , c ) 2 , b ) 3",
        "a ) 1 , b ) 2 , c ) 3 d ) 4",  # a comma is missing
        "a ) 1 b ) 2",
        "a ) 1 , b ) , c ) 3",  # an empty option
        "a ) , b ) 2",
        "a ) 1",
        "['b ) 1', 'a ) 2']",
        "['a ) 1', '2']",
        "['1', '2', '3', '4', '5', '6']",
        "[1, 1e999]",
    ],
)
def test_mathqa_options_that_cannot_be_told_apart_are_refused(options: str) -> None:
    with pytest.raises(BadRow):
        mathqa(options)


def test_mathqa_splits_long_text_quickly() -> None:
    for text in ("a ) " + ", b )" * 100_000, "a ) " + ",b" + " " * 300_000, "a ) " + "(" * 300_000):
        with pytest.raises(BadRow):
            mathqa(text)
