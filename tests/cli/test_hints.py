"""Every kind and every advice has its words, and they are whole sentences."""

from __future__ import annotations

import pytest

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError, MissingDependencyError
from dvx.hints import BY_ADVICE, BY_KIND, hint_of


def test_the_tables_are_complete() -> None:
    assert BY_KIND.keys() == set(ErrorKind)
    assert BY_ADVICE.keys() == set(Advice)


@pytest.mark.parametrize("words", [*BY_ADVICE.values(), *filter(None, BY_KIND.values())])
def test_a_hint_is_a_whole_sentence(words: str) -> None:
    assert words[0].isupper() or words[0] == "'", words
    assert words[-1] in ".?", words


def test_an_advice_says_it_more_closely_than_the_kind() -> None:
    error = InvalidInputError(
        "lora is an adapter",
        kind=ErrorKind.BASE_UNKNOWN,
        advice=Advice.FOLD_ADAPTER,
        facts={"revision": "lora"},
    )
    assert hint_of(error) == "Fold it in and commit the result: dvx checkout lora --merge-adapter -o DIR."


def test_facts_fill_the_words_of_a_kind() -> None:
    error = MissingDependencyError(
        "this needs peft", kind=ErrorKind.MISSING_PACKAGE, facts={"package": "peft"}
    )
    assert hint_of(error) == "Install it: pip install peft."


def test_braces_in_the_words_are_written_out() -> None:
    error = InvalidInputError("bad template", kind=ErrorKind.BAD_TASK, advice=Advice.WRITE_PLACEHOLDERS)
    assert hint_of(error) == "Write {column}; write {{ and }} for braces."


def test_a_fact_is_taken_as_it_is() -> None:
    error = InvalidInputError(
        "no task", kind=ErrorKind.UNKNOWN_SOURCE, advice=Advice.KNOWN_TASKS, facts={"tasks": "piqa, {x}"}
    )
    assert hint_of(error) == "There are: piqa, {x}. Your own: dvx task add NAME --file rows.jsonl."
