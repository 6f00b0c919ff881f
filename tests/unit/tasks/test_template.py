from __future__ import annotations

from pathlib import Path

import pytest
from task_rows import choice_rows, write_jsonl

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.tasks.definition import file_task
from deltavcs.tasks.reading import read_task
from deltavcs.tasks.template import Template


def test_prompt_and_answer_rows(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"prompt": "Once upon", "answer": "a time"}])
    example = read_task(file_task("t", path)).examples[0]
    assert (example.plain_prompt, example.plain_answer) == ("Once upon", " a time")


def test_own_template(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"src": "chat", "n": 2, "dst": "cat", "extra": None}])
    task = file_task("t", path, prompt="{{fr}} {src} +{n} =", answer="{dst}")
    example = read_task(task).examples[0]
    assert (example.prompt, example.answer) == ("{fr} chat +2 =", "cat")


def test_own_template_over_options_with_numbers(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", choice_rows(2))
    task = file_task("t", path, prompt="Q {question}\n{options}\nA", numbering="numbers")
    example = read_task(task).examples[1]
    assert (example.prompt, example.answer) == ("Q t question 1?\n1. x1\n2. y1\n3. z1\nA", "2")


@pytest.mark.parametrize("prompt", ["{a.b}", "{a[0]}", "{}", "{0}", "{a!r}", "{a:>9}", "{a", "no column"])
def test_bad_templates(tmp_path: Path, prompt: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        file_task("t", tmp_path, prompt=prompt)
    assert caught.value.kind is ErrorKind.BAD_TASK


def test_braces_that_are_no_placeholder_say_how_to_write_one() -> None:
    with pytest.raises(InvalidInputError) as caught:
        Template(prompt="{a.b}")
    assert caught.value.advice is Advice.WRITE_PLACEHOLDERS


@pytest.mark.parametrize("name", ["prompt", "answer", "cue"])
def test_half_a_surrogate_pair_is_no_template(name: str) -> None:
    with pytest.raises(InvalidInputError, match="half of a surrogate pair") as caught:
        Template(**{name: "\ud800 {x}"})
    assert caught.value.kind is ErrorKind.BAD_TASK
