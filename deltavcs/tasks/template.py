"""From one row to a prompt and its answer.

A `Record` is a row whose columns are understood; a `Template` turns it into an `Example`. Nothing here knows
a model or a tokenizer.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass, field

from deltavcs.errors import ErrorKind, InvalidInputError

LETTERS = string.ascii_uppercase
NUMBERINGS = ("letters", "numbers")
DEFAULT_CUE = "Answer:"


class BadRow(ValueError):
    """A row cannot be used; the message is the reason. The loader adds file and line."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row, understood.

    Attributes:
        fields: what placeholders can name: the row's columns, and `question`, `options` and `answer` where
            the row carries them under other names.
        choices: the options, in the row's order; empty where the answer is free text.
        labels: one label per option.
    """

    fields: Mapping[str, object]
    choices: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt and the answer whose likelihood is measured.

    Attributes:
        prompt: what is asked; the user's turn where the tokenizer has a chat template.
        answer: the text that is scored, without surrounding white space.
        cue: the line that ends the prompt where there is no chat template; may be empty.
    """

    prompt: str
    answer: str
    cue: str = DEFAULT_CUE

    @property
    def plain_prompt(self) -> str:
        """The prompt for a tokenizer without a chat template."""
        return f"{self.prompt}\n{self.cue}" if self.cue else self.prompt

    @property
    def plain_answer(self) -> str:
        """What follows `plain_prompt`: the answer after one space, so that it starts a word."""
        return " " + self.answer


@dataclass(frozen=True, slots=True)
class Template:
    """How a task asks.

    Attributes:
        prompt: text with `{column}` placeholders; `{{` and `}}` stand for braces. Multiple choice has
            `{options}`, one line per option.
        answer: likewise; `{answer}` is the label of the right option, or the row's answer.
        numbering: `letters` or `numbers`, used where the row gives its options no labels.
        cue: last line of the prompt where the tokenizer has no chat template.
    """

    prompt: str = "{prompt}"
    answer: str = "{answer}"
    numbering: str = "letters"
    cue: str = DEFAULT_CUE
    _parts: tuple[tuple[tuple[str, str | None], ...], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.numbering not in NUMBERINGS:
            raise bad_task(f"numbering is {self.numbering!r}; it must be one of {', '.join(NUMBERINGS)}")
        object.__setattr__(self, "_parts", (parse_template(self.prompt), parse_template(self.answer)))
        if not any(name is not None for _, name in self._parts[0]):
            raise bad_task(f"the prompt template names no column: {self.prompt!r}")
        if not any(name is not None for _, name in self._parts[1]):
            raise bad_task(f"the answer template names no column: {self.answer!r}")

    @property
    def columns(self) -> frozenset[str]:
        """The placeholders of prompt and answer."""
        return frozenset(name for parts in self._parts for _, name in parts if name is not None)

    def to_dict(self) -> dict[str, str]:
        """The template as JSON; `Template(**value)` reads it back."""
        return {"answer": self.answer, "cue": self.cue, "numbering": self.numbering, "prompt": self.prompt}

    def render(self, record: Record) -> Example:
        """Fill the placeholders.

        Raises:
            BadRow: a placeholder names no column, or its value is missing, a list or empty where the whole
                answer or prompt would be.
        """
        prompt = _fill(self._parts[0], record.fields).strip()
        answer = _fill(self._parts[1], record.fields).strip()
        if not prompt:
            raise BadRow("the prompt is empty")
        if not answer:
            raise BadRow("the answer is empty")
        return Example(prompt=prompt, answer=answer, cue=self.cue)


def bad_task(message: str, *, hint: str | None = None) -> InvalidInputError:
    """An `InvalidInputError` of kind `bad-task`."""
    return InvalidInputError(message, kind=ErrorKind.BAD_TASK, hint=hint)


def parse_template(text: str) -> tuple[tuple[str, str | None], ...]:
    """Split `text` into (literal, placeholder or None) pairs.

    Only plain `{column}` is allowed: attribute access, indexing, conversions and format specifications would
    let a template reach into Python objects.

    Raises:
        InvalidInputError: `bad-task` for anything else in braces.
    """
    parts: list[tuple[str, str | None]] = []
    try:
        for literal, name, spec, conversion in string.Formatter().parse(text):
            if name is not None and (not name.isidentifier() or spec or conversion):
                raise ValueError(f"{{{name}}} is not a plain column name")
            parts.append((literal, name))
    except ValueError as exc:
        raise bad_task(
            f"bad template {text!r}: {exc}", hint="write {column}; write {{ and }} for braces"
        ) from exc
    return tuple(parts)


def option_lines(labels: tuple[str, ...], choices: tuple[str, ...]) -> str:
    """The options, one `A. text` line each."""
    return "\n".join(f"{label}. {choice}" for label, choice in zip(labels, choices, strict=True))


def default_labels(count: int, numbering: str) -> tuple[str, ...]:
    """Letters `A`, `B`, … or numbers `1`, `2`, ….

    Raises:
        BadRow: more options than letters.
    """
    if numbering == "numbers":
        return tuple(str(i + 1) for i in range(count))
    if count > len(LETTERS):
        raise BadRow(f"{count} options, but only {len(LETTERS)} letters")
    return tuple(LETTERS[:count])


def _fill(parts: tuple[tuple[str, str | None], ...], fields: Mapping[str, object]) -> str:
    out: list[str] = []
    for literal, name in parts:
        out.append(literal)
        if name is not None:
            out.append(field_text(fields, name))
    return "".join(out)


def field_text(fields: Mapping[str, object], name: str) -> str:
    """The value of a column as text.

    Raises:
        BadRow: the column is absent, null, or holds something other than text or a number.
    """
    if name not in fields:
        have = ", ".join(sorted(fields)) or "none"
        raise BadRow(f"no column {name!r} (columns: {have})")
    value = fields[name]
    if value is None:
        raise BadRow(f"column {name!r} is null")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadRow(f"column {name!r} holds a {type(value).__name__}, not text")
    return str(value)
