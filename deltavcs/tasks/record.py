"""One row whose columns are understood, and how to say that a row or a task cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError

Row = Mapping[str, object]


class BadRow(ValueError):
    """A row cannot be used; the message is the reason. The reader adds file and line."""


def bad_task(
    message: str, *, advice: Advice | None = None, facts: Mapping[str, str] | None = None
) -> InvalidInputError:
    """An `InvalidInputError` of kind `bad-task`."""
    return InvalidInputError(message, kind=ErrorKind.BAD_TASK, advice=advice, facts=facts)


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


# Understands one row; the second argument numbers options that have no labels: `letters` or `numbers`.
RecordReader = Callable[[Row, str], Record]


def present_value(row: Row, name: str) -> object:
    """The value of a column.

    Raises:
        BadRow: the column is absent or null.
    """
    if name not in row:
        raise BadRow(f"no column {name!r} (columns: {', '.join(sorted(row)) or 'none'})")
    if row[name] is None:
        raise BadRow(f"column {name!r} is null")
    return row[name]


def field_text(row: Row, name: str) -> str:
    """The value of a column as text.

    Raises:
        BadRow: the column is absent, null, or holds something other than text or a number.
    """
    value = present_value(row, name)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadRow(f"column {name!r} holds a {type(value).__name__}, not text")
    return str(value)


def check_text(name: str, text: str) -> None:
    """Check that a text is Unicode that can be written down.

    Raises:
        BadRow: it holds what JSON can write, but no tokenizer can read.
    """
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        half = text[exc.start].encode("unicode_escape").decode()
        raise BadRow(f"the {name} holds {half}, half of a surrogate pair, which is no character") from exc
