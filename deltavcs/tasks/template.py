"""From a record to a prompt and its answer. Nothing here knows a model or a tokenizer."""

from __future__ import annotations

import string
from dataclasses import dataclass, field

from deltavcs.advice import Advice
from deltavcs.tasks.record import BadRow, Record, Row, bad_task, check_text, field_text

NUMBERINGS = ("letters", "numbers")
DEFAULT_CUE = "Answer:"

# (literal, placeholder or None) pairs
Parts = tuple[tuple[str, str | None], ...]


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
    _parts: tuple[Parts, Parts] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.numbering not in NUMBERINGS:
            raise bad_task(f"numbering is {self.numbering!r}; it must be one of {', '.join(NUMBERINGS)}")
        for name in ("prompt", "answer", "cue"):
            try:
                check_text(name, getattr(self, name))
            except BadRow as exc:
                raise bad_task(f"bad template: {exc}") from exc
        object.__setattr__(self, "_parts", (parse_template(self.prompt), parse_template(self.answer)))
        if not any(name is not None for _, name in self._parts[0]):
            raise bad_task(f"the prompt template names no column: {self.prompt!r}")
        if not any(name is not None for _, name in self._parts[1]):
            raise bad_task(f"the answer template names no column: {self.answer!r}")

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


def parse_template(text: str) -> Parts:
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
        raise bad_task(f"bad template {text!r}: {exc}", advice=Advice.WRITE_PLACEHOLDERS) from exc
    return tuple(parts)


def _fill(parts: Parts, fields: Row) -> str:
    out: list[str] = []
    for literal, name in parts:
        out.append(literal)
        if name is not None:
            out.append(field_text(fields, name))
    return "".join(out)
