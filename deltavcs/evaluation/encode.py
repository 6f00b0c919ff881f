"""From examples to token ids: chat template, answer boundary, truncation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError, MissingDependencyError
from deltavcs.tasks.record import bad_task
from deltavcs.tasks.template import Example

# Chat templates that print today's date would make a score depend on the day it was computed. Llama's take
# `date_string`; others call `strftime_now`, which a macro of that name replaces (a function given as an
# argument no longer arrives: transformers 5.23 turns arguments into plain data).
_DATE_STRING = "26 Jul 2024"
_DATE_PARTS = dict(
    pair.split("=")
    for pair in (
        "%Y=2024 %y=24 %m=07 %d=26 %-d=26 %e=26 %B=July %b=Jul %A=Friday %a=Fri %H=12 %I=12 %M=00 %S=00 %p=PM"
    ).split()
)
_DATE_MACRO = (
    "{%- macro strftime_now(format) -%}{{ format"
    + "".join(f" | replace('{part}', '{value}')" for part, value in _DATE_PARTS.items())
    + " }}{%- endmacro -%}"
)
# Tokenizers without a limit of their own say 10^30.
_NO_LIMIT = 10**9


@dataclass(frozen=True, slots=True)
class Sample:
    """One tokenized example.

    Attributes:
        ids: prompt tokens, then answer tokens.
        n_answer: how many of the last tokens are the answer; at least 1, less than `len(ids)`.
        truncated: True if tokens were dropped to fit the context.
    """

    ids: tuple[int, ...]
    n_answer: int
    truncated: bool = False

    @property
    def n_prompt(self) -> int:
        """Tokens before the answer."""
        return len(self.ids) - self.n_answer


def context_length(model: Any, tokenizer: Any) -> int | None:
    """The most tokens that model and tokenizer say they take; None if neither says."""
    told = (positions_of(model), getattr(tokenizer, "model_max_length", None))
    limits = [n for n in told if isinstance(n, int) and 0 < n < _NO_LIMIT]
    return min(limits) if limits else None


def positions_of(model: Any) -> int | None:
    """The most tokens that a model says it takes, in the configuration of its text part."""
    config = model.config
    if hasattr(config, "get_text_config"):
        config = config.get_text_config()
    found = getattr(config, "max_position_embeddings", None)
    return found if isinstance(found, int) else None


def encode_examples(
    examples: Iterable[Example], tokenizer: Any, *, max_length: int | None = None
) -> list[Sample]:
    """Tokenize examples, in order.

    The prompt goes through the tokenizer's chat template where it has one (one user turn, generation prompt
    added), else it is `Example.plain_prompt` after the tokenizer's leading special tokens. The answer is
    appended as text and the whole is tokenized at once; the answer's tokens are those after the longest
    token prefix shared with the prompt alone, so a token that spans the boundary belongs to the answer. No
    end-of-text token is scored: as in Mashup Learning, only the answer itself counts.

    Args:
        examples: what to tokenize.
        tokenizer: a transformers tokenizer.
        max_length: most tokens per sample; None for no limit. See `fit` for what is dropped.

    Raises:
        InvalidInputError: `bad-task` if an answer has no tokens, or `max_length` is below 2;
            `bad-checkpoint` if the chat template fails.
    """
    if max_length is not None and max_length < 2:
        raise bad_task(f"a context of {max_length} tokens holds no prompt and answer")
    leading = () if _has_chat_template(tokenizer) else leading_tokens(tokenizer)
    return [_encode(example, tokenizer, leading, max_length) for example in examples]


def fit(leading: Sequence[int], body: Sequence[int], answer: Sequence[int], max_length: int | None) -> Sample:
    """Join the parts within `max_length` tokens.

    Too long: the *start* of the body goes first, since question and options stand nearest to the answer; the
    leading special tokens stay. If leading tokens, one body token and the answer still do not fit, the end
    of the answer goes.
    """
    size = len(leading) + len(body) + len(answer)
    if max_length is None or size <= max_length:
        return Sample((*leading, *body, *answer), len(answer))
    head = tuple(leading[: max_length - 2])
    tail = tuple(body[-max(1, max_length - len(head) - len(answer)) :]) if body else ()
    kept = tuple(answer[: max_length - len(head) - len(tail)])
    return Sample((*head, *tail, *kept), len(kept), truncated=True)


def leading_tokens(tokenizer: Any) -> tuple[int, ...]:
    """The special tokens that the tokenizer puts before a text (usually one, or none)."""
    bare = tokenizer("a", add_special_tokens=False).input_ids
    full = tokenizer("a", add_special_tokens=True).input_ids
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return tuple(full[:start])
    return ()


def pad_token(tokenizer: Any) -> int:
    """The id used to fill up rows. Padding is masked, so any id will do."""
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if isinstance(token, int):
            return token
    return 0


def _has_chat_template(tokenizer: Any) -> bool:
    return getattr(tokenizer, "chat_template", None) is not None


def _encode(example: Example, tokenizer: Any, leading: tuple[int, ...], max_length: int | None) -> Sample:
    if _has_chat_template(tokenizer):
        prompt, answer = chat_prompt(example.prompt, tokenizer), example.answer
    else:
        prompt, answer = example.plain_prompt, example.plain_answer
    alone = tokenizer(prompt, add_special_tokens=False).input_ids
    joined = tokenizer(prompt + answer, add_special_tokens=False).input_ids
    shared = _shared_prefix(alone, joined)
    if shared == len(joined):
        raise bad_task(f"the answer {example.answer!r} has no tokens of its own")
    if shared + len(leading) == 0:
        raise bad_task(f"no token stands before the answer {example.answer!r}")
    return fit(leading, joined[:shared], joined[shared:], max_length)


def chat_prompt(prompt: str, tokenizer: Any) -> str:
    """The text of one user turn and the start of the assistant's, on a fixed date and without reasoning.

    Raises:
        InvalidInputError: `bad-checkpoint` if the chat template is malformed or fails.
        MissingDependencyError: jinja2 is not installed.
    """
    try:
        template = tokenizer.get_chat_template()
        if "strftime_now" in template:
            template = _DATE_MACRO + template
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            chat_template=template,
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
            date_string=_DATE_STRING,
        )
    except ImportError as exc:
        raise MissingDependencyError(
            f"chat templates need jinja2: {exc}", kind=ErrorKind.MISSING_PACKAGE, facts={"package": "jinja2"}
        ) from exc
    except Exception as exc:  # a template is a program of the checkpoint's: it can raise anything
        raise _bad_chat_template(exc) from exc
    return str(text)


def _bad_chat_template(exc: Exception) -> InvalidInputError:
    reason = (str(exc).strip().splitlines() or ["no reason given"])[0]
    line = getattr(exc, "lineno", None)
    where = f" (line {line})" if isinstance(line, int) else ""
    return InvalidInputError(
        f"the checkpoint's chat template fails: {type(exc).__name__}: {reason}{where}",
        kind=ErrorKind.BAD_CHECKPOINT,
        advice=Advice.CORRECT_CHAT_TEMPLATE,
    )


def check_ids(samples: Iterable[Sample], n_rows: int, *, name: str = "the checkpoint") -> None:
    """Check that a model can look up every token.

    Args:
        samples: what it is to run on.
        n_rows: rows of its input embedding.
        name: of the checkpoint, for the message.

    Raises:
        InvalidInputError: `bad-checkpoint` if an id lies beyond the embedding.
    """
    most = max((max(sample.ids) for sample in samples), default=0)
    if most >= n_rows:
        raise InvalidInputError(
            f"the tokenizer of {name} has ids up to {most}, the model has {n_rows} embedding rows",
            kind=ErrorKind.BAD_CHECKPOINT,
            advice=Advice.MATCH_TOKENIZER,
        )


def _shared_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    count = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        count += 1
    return count
