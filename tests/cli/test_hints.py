"""Every kind and every advice has its words, and they are whole sentences."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError, MissingDependencyError
from dvx.hints import BY_ADVICE, BY_KIND, hint_of

ROOT = Path(__file__).parents[2]
HINTS = ROOT / "cli/dvx/hints.py"


def test_the_tables_are_complete() -> None:
    assert BY_KIND.keys() == set(ErrorKind)
    assert BY_ADVICE.keys() == set(Advice)


@pytest.mark.parametrize("words", [*BY_ADVICE.values(), *filter(None, BY_KIND.values())])
def test_a_hint_is_a_whole_sentence(words: str) -> None:
    assert words[0].isupper() or words[0] == "'", words
    # What ends in a command is copied with its end.
    ends_in_a_command = re.search(r": (dvx|pip|--train) [^.,]*(\.jsonl|\.py [^.]*)?$", words.rstrip("."))
    assert (words[-1] in ".?") != bool(ends_in_a_command), words


def test_an_advice_says_it_more_closely_than_the_kind() -> None:
    error = InvalidInputError(
        "lora is an adapter",
        kind=ErrorKind.BASE_UNKNOWN,
        advice=Advice.FOLD_ADAPTER,
        facts={"revision": "lora"},
    )
    assert (
        hint_of(error)
        == "Fold the adapter in and commit the result: dvx checkout lora --merge-adapter -o DIR"
    )


def test_facts_fill_the_words_of_a_kind() -> None:
    error = MissingDependencyError(
        "this needs peft", kind=ErrorKind.MISSING_PACKAGE, facts={"package": "peft"}
    )
    assert hint_of(error) == "Install it: pip install peft"


def test_braces_in_the_words_are_written_out() -> None:
    error = InvalidInputError("bad template", kind=ErrorKind.BAD_TASK, advice=Advice.WRITE_PLACEHOLDERS)
    assert hint_of(error) == "Write {column}; write {{ and }} for braces."


def test_a_fact_is_taken_as_it_is() -> None:
    error = InvalidInputError(
        "no task", kind=ErrorKind.UNKNOWN_SOURCE, advice=Advice.KNOWN_TASKS, facts={"tasks": "piqa, {x}"}
    )
    assert hint_of(error) == "There are: piqa, {x}. Your own: dvx task add NAME --file rows.jsonl"


def test_no_two_advices_say_the_same() -> None:
    assert len(set(BY_ADVICE.values())) == len(BY_ADVICE)


def _given() -> Iterator[tuple[str, str, ast.expr | None]]:
    """Each place of the library that names an advice: where, which, and the facts that go with it."""
    for path in sorted((ROOT / "deltavcs").rglob("*.py")):
        for call in (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)):
            given = {k.arg: k.value for k in call.keywords}
            named = ast.unparse(given["advice"]) if "advice" in given else ""
            for name in re.findall(r"Advice\.([A-Z0-9_]+)", named):
                yield f"{path.name}:{call.lineno}", name, given.get("facts")


def test_every_advice_is_given_somewhere_with_the_facts_that_its_words_name() -> None:
    # The command line raises an error of its own where the working directory is gone.
    text = "".join(
        p.read_text() for top in ("deltavcs", "cli") for p in (ROOT / top).rglob("*.py") if p != HINTS
    )
    assert {a.name for a in Advice} <= set(re.findall(r"Advice\.([A-Z0-9_]+)", text))
    for where, name, facts in _given():
        words = BY_ADVICE[Advice[name]]
        wanted = {field for _, field, _, _ in string.Formatter().parse(words) if field}
        if isinstance(facts, ast.Dict):
            found = {k.value for k in facts.keys if isinstance(k, ast.Constant)}
            assert wanted <= found, (where, name)
        elif facts is None:
            assert not wanted, (where, name)
