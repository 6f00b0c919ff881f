from __future__ import annotations

from typing import Any

import pytest

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError, MissingDependencyError
from deltavcs.evaluation.encode import (
    Sample,
    chat_prompt,
    check_ids,
    context_length,
    encode_examples,
    fit,
    leading_tokens,
    pad_token,
)
from deltavcs.tasks.template import Example


def test_plain_prompt_then_answer(tokenizer: Any, examples: list[Example]) -> None:
    for example, sample in zip(examples, encode_examples(examples, tokenizer), strict=True):
        assert sample.ids[0] == tokenizer.bos_token_id
        assert tokenizer.decode(sample.ids[1:]) == f"{example.prompt}\nAnswer: {example.answer}"
        assert tokenizer.decode(sample.ids[sample.n_prompt :]) == f" {example.answer}"
        assert tokenizer.eos_token_id not in sample.ids
        assert not sample.truncated


def test_chat_template_is_used_where_there_is_one(chat_tokenizer: Any, examples: list[Example]) -> None:
    for example, sample in zip(examples, encode_examples(examples, chat_tokenizer), strict=True):
        text = f"<|user|>{example.prompt}<|end|><|assistant|>{example.answer}"
        assert chat_tokenizer.decode(sample.ids, skip_special_tokens=False) == text
        assert chat_tokenizer.decode(sample.ids[sample.n_prompt :]) == example.answer
        assert sample.ids.count(chat_tokenizer.bos_token_id) == 0


def test_chat_templates_that_print_the_date_do_not_change_by_the_day(chat_tokenizer: Any) -> None:
    kept = chat_tokenizer.chat_template
    try:
        chat_tokenizer.chat_template = (
            "{{ strftime_now('%Y-%m-%d') }}|{{ strftime_now('%B %d, %Y') }}|"
            "{% if date_string is defined %}{{ date_string }}{% endif %}|{{ messages[0].content }}"
        )
        text = chat_prompt("x", chat_tokenizer)
    finally:
        chat_tokenizer.chat_template = kept
    assert text == "2024-07-26|July 26, 2024|26 Jul 2024|x"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% if %}", "TemplateSyntaxError: Expected an expression, got 'end of statement block' (line 1)"),
        ("\n{% for m in messages %}{{ m.content }}", "(line 2)"),
        ("{{ raise_exception('one turn only') }}", "TemplateError: one turn only"),
        ("{{ messages[0].content.nothing.more }}", "UndefinedError: "),
        ("{{ 1 // 0 }}", "ZeroDivisionError: "),
        ("{{ ''.__class__.__mro__ }}", "SecurityError: "),
        ("{% if %}{{ strftime_now('%Y') }}", "TemplateSyntaxError: "),
        ({"a": "x", "b": "y"}, "ValueError: "),
    ],
)
def test_a_chat_template_that_fails_is_the_checkpoints_fault(
    chat_tokenizer: Any, monkeypatch: pytest.MonkeyPatch, template: Any, reason: str
) -> None:
    monkeypatch.setattr(chat_tokenizer, "chat_template", template)
    with pytest.raises(InvalidInputError) as caught:
        encode_examples([Example("a", "b")], chat_tokenizer)
    assert caught.value.kind is ErrorKind.BAD_CHECKPOINT
    assert str(caught.value).startswith("the checkpoint's chat template fails: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.advice is Advice.CORRECT_CHAT_TEMPLATE


def test_ids_beyond_the_embedding() -> None:
    samples = [Sample((1, 7), 1), Sample((9, 2, 3), 1)]
    check_ids(samples, 10)
    check_ids([], 1)
    with pytest.raises(InvalidInputError) as caught:
        check_ids(samples, 9, name="main")
    assert caught.value.kind is ErrorKind.BAD_CHECKPOINT
    assert str(caught.value) == "the tokenizer of main has ids up to 9, the model has 9 embedding rows"


def test_a_token_across_the_boundary_belongs_to_the_answer() -> None:
    class Merging:
        """Joins "x" and what follows it, as byte-pair encoders join across a boundary."""

        chat_template = None

        def __call__(self, text: str, *, add_special_tokens: bool) -> Any:
            pieces, rest = [], text
            while rest:
                size = 2 if rest[0] == ":" and len(rest) > 1 else 1
                pieces.append(hash(rest[:size]) % 10_000)
                rest = rest[size:]
            return type("Encoding", (), {"input_ids": pieces})

    (sample,) = encode_examples([Example("a", "b")], Merging())
    assert sample.n_answer == 2  # ": " and "b"


def test_truncation_keeps_the_answer_and_the_end_of_the_prompt() -> None:
    kept = fit([1], [10, 11, 12, 13], [20, 21], 5)
    assert (kept.ids, kept.n_answer, kept.truncated) == ((1, 12, 13, 20, 21), 2, True)
    exact = fit([1], [10, 11], [20], 4)
    assert (exact.ids, exact.truncated) == ((1, 10, 11, 20), False)
    long = fit([1], [10, 11], [20, 21, 22, 23], 4)
    assert (long.ids, long.n_answer, long.truncated) == ((1, 11, 20, 21), 2, True)
    least = fit([1, 2, 3], [10], [20, 21], 2)
    assert (least.ids, least.n_answer) == ((10, 20), 1)


@pytest.mark.parametrize("limit", range(2, 40))
def test_truncation_always_fits(tokenizer: Any, examples: list[Example], limit: int) -> None:
    whole = encode_examples(examples, tokenizer)
    for sample, full in zip(encode_examples(examples, tokenizer, max_length=limit), whole, strict=True):
        assert len(sample.ids) <= limit
        assert 1 <= sample.n_answer < len(sample.ids)
        assert sample.truncated == (len(full.ids) > limit)
    with pytest.raises(InvalidInputError):
        encode_examples(examples, tokenizer, max_length=1)


def test_context_and_padding(tokenizer: Any, make_model: Any, stories: tuple[Any, Any]) -> None:
    assert context_length(make_model(), tokenizer) == 256
    assert context_length(*stories) == 512
    assert pad_token(tokenizer) == 0
    assert leading_tokens(tokenizer) == (1,)
    assert leading_tokens(stories[1]) == (1,)


def test_a_chat_template_without_jinja(chat_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def apply_chat_template(*_: object, **__: object) -> str:
        raise ImportError("apply_chat_template requires jinja2 to be installed.")

    monkeypatch.setattr(chat_tokenizer, "apply_chat_template", apply_chat_template)
    with pytest.raises(MissingDependencyError) as caught:
        chat_prompt("hello", chat_tokenizer)
    assert (caught.value.kind, caught.value.facts) == (ErrorKind.MISSING_PACKAGE, {"package": "jinja2"})
