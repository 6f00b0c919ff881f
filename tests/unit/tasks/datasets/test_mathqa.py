"""Options that are one text: every spelling of them, and those that cannot be told apart."""

from __future__ import annotations

import pytest

from deltavcs.tasks.catalog import BUILTIN_TASKS
from deltavcs.tasks.datasets.mathqa import read_mathqa
from deltavcs.tasks.reading import render_row
from deltavcs.tasks.record import BadRow


@pytest.mark.parametrize(
    "options",
    [
        "a ) 1 , b ) 2 , c ) 3 , d ) 4 , e ) 5",
        "a) 1, b) 2, c) 3, d) 4, e) 5",
        "['a ) 1', 'b ) 2', 'c ) 3', 'd ) 4', 'e ) 5']",
        "['1', '2', '3', '4', '5']",
    ],
)
def test_mathqa_options_in_every_spelling(options: str) -> None:
    row = {"Problem": "p ?", "options": options, "correct": "e"}
    example = render_row(BUILTIN_TASKS["mathqa"], row, origin="row 1")
    assert example.prompt.endswith("A. 1\nB. 2\nC. 3\nD. 4\nE. 5")
    assert example.answer == "E"


def test_mathqa_brackets_and_commas_stay_inside_their_option() -> None:
    row = {"Problem": "p ?", "options": "a ) 2 ( n ) , b ) f ( x , d ) 3 , c ) 1 , 000", "correct": "b"}
    example = render_row(BUILTIN_TASKS["mathqa"], row, origin="row 1")
    assert example.prompt.endswith("A. 2 ( n )\nB. f ( x , d ) 3\nC. 1 , 000")


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
