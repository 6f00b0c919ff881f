"""Multiple choice: what options, labels and answers of any dataset mean.

Every reader of a built-in task takes both the dataset's original columns and the normalised
`{question, choices, label}` (`label` counts from 0), and gives the same record where both say the same.

Digits are a position or a label, and which of them depends on the column alone: `answerKey` is always one of
the row's labels; elsewhere digits are a position, unless the row brings labels of its own and writes text.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable

from deltavcs.tasks.record import BadRow, Record, Row, field_text, present_value
from deltavcs.tasks.row_json import parse_row_json

Finder = Callable[[object, tuple[str, ...]], int]

LETTERS = string.ascii_uppercase
MAX_CHOICES = 100


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


def option_lines(labels: tuple[str, ...], choices: tuple[str, ...]) -> str:
    """The options, one `A. text` line each."""
    return "\n".join(f"{label}. {choice}" for label, choice in zip(labels, choices, strict=True))


def find_position(answer: object, labels: tuple[str, ...]) -> int:
    """The option meant by a position from 0 (an int, or digits) or by one of the labels.

    Digits are a position even where a label looks the same: CSV has no numbers.

    Raises:
        BadRow: it means none.
    """
    if isinstance(answer, bool) or not isinstance(answer, int | str):
        raise BadRow(f"the label is {answer!r}, neither a label nor a position")
    if isinstance(answer, str):
        text = answer.strip()
        if not (text.isascii() and text.isdigit()):
            return find_label(text, labels)
        answer = int((text.lstrip("0") or "0")[:10])
    if not 0 <= answer < len(labels):
        raise BadRow(f"the label is {answer}, but there are {len(labels)} options (counted from 0)")
    return answer


def find_label(answer: object, labels: tuple[str, ...]) -> int:
    """The option meant by one of the labels; a number stands for its digits.

    Raises:
        BadRow: it means none.
    """
    if isinstance(answer, bool) or not isinstance(answer, int | str):
        raise BadRow(f"the label is {answer!r}, not one of {list(labels)}")
    text = str(answer).strip()
    if not text:
        raise BadRow("the label is empty (this split may have no answers)")
    if text not in labels:
        raise BadRow(f"the label {text[:80]!r} is not one of {list(labels)}")
    return labels.index(text)


def find_either(answer: object, labels: tuple[str, ...]) -> int:
    """As `find_position`, beside labels of the row's own: text is a label if any of them is digits."""
    if isinstance(answer, str) and (answer.strip() in labels or any(label.isdigit() for label in labels)):
        return find_label(answer, labels)
    return find_position(answer, labels)


def multiple_choice(
    row: Row,
    question: str,
    choices: list[str],
    answer: object,
    *,
    labels: tuple[str, ...],
    find: Finder = find_position,
) -> Record:
    """A record for a question with options.

    Args:
        row: the columns, which stay available to placeholders.
        question: what is asked, ready to print.
        choices: the options; at least two. Each is printed on one line.
        answer: what `find` understands.
        labels: one per option.
        find: gives the position of the right option.

    Raises:
        BadRow: the options or the answer do not hold together.
    """
    if not question.strip():
        raise BadRow("the question is empty")
    if not 2 <= len(choices) <= MAX_CHOICES:
        raise BadRow(f"{len(choices)} options; there must be 2 to {MAX_CHOICES}")
    if len(labels) != len(choices):
        raise BadRow(f"{len(choices)} options but {len(labels)} labels")
    if len(set(labels)) != len(labels) or not all(labels):
        raise BadRow(f"labels must differ and not be empty: {list(labels)}")
    options = tuple(" ".join(choice.split()) for choice in choices)
    if not all(options):
        raise BadRow(f"option {labels[options.index('')]} is empty")
    fields = dict(row) | {
        "question": question.strip(),
        "options": option_lines(labels, options),
        "answer": labels[find(answer, labels)],
    }
    return Record(fields=fields, choices=options, labels=labels)


def text_list(value: object, name: str) -> list[str]:
    """A column's list of texts.

    Raises:
        BadRow: it is something else.
    """
    if isinstance(value, str):
        # CSV has no lists; a JSON list in the cell is the usual way round it.
        try:
            value = parse_row_json(value)
        except ValueError as exc:
            raise BadRow(f"column {name!r} is text, but not a JSON list: {exc}") from None
    if not isinstance(value, list) or not all(isinstance(v, str | int | float) for v in value):
        raise BadRow(f"column {name!r} is not a list of texts")
    if any(isinstance(v, float) and not math.isfinite(v) for v in value):
        raise BadRow(f"column {name!r} holds a number that is not finite")
    return [str(v) for v in value]


def labelled_choices(row: Row, name: str = "choices") -> tuple[list[str], tuple[str, ...]]:
    """Read options and labels of `{"text": […], "label": […]}`.

    Raises:
        BadRow: the column is something else.
    """
    value = row.get(name)
    if not isinstance(value, dict) or not {"text", "label"} <= value.keys():
        raise BadRow(f"column {name!r} is not a record of 'text' and 'label'")
    labels = tuple(label.strip() for label in text_list(value["label"], f"{name}.label"))
    return text_list(value["text"], f"{name}.text"), labels


def is_normalised(row: Row) -> bool:
    """True for a row of `{question, choices: […], label}`."""
    return isinstance(row.get("choices"), list | str) and "label" in row


def read_normalised(row: Row, numbering: str) -> Record:
    """Read `{question, choices: […], label}`: see `find_position` for what `label` says."""
    choices = text_list(row.get("choices"), "choices")
    labels = default_labels(len(choices), numbering)
    return multiple_choice(
        row, field_text(row, "question"), choices, present_value(row, "label"), labels=labels
    )


def read_keyed(row: Row, numbering: str, *, question: str) -> Record:
    """Read `{QUESTION, choices: {text, label}, answerKey}`."""
    if is_normalised(row):
        return read_normalised(row, numbering)
    choices, labels = labelled_choices(row)
    answer = present_value(row, "answerKey")
    return multiple_choice(row, field_text(row, question), choices, answer, labels=labels, find=find_label)


def position_from_one(row: Row, name: str, count: int) -> int:
    """The position (from 0) behind a label that counts from 1.

    Raises:
        BadRow: it is not one of the `count` labels.
    """
    text = field_text(row, name).strip()
    if not text:
        raise BadRow(f"column {name!r} is empty (this split may have no answers)")
    if text not in {str(i + 1) for i in range(count)}:
        raise BadRow(f"column {name!r} is {text!r}, not a number from 1 to {count}")
    return int(text) - 1
