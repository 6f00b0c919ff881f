"""What the columns of a dataset mean: one reader per column layout, in one table.

Every reader of a built-in task takes both the dataset's original columns and the normalised
`{question, choices, label}` (`label` counts from 0), and gives the same record where both say the same.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from deltavcs.rank.template import (
    DEFAULT_CUE,
    LETTERS,
    BadRow,
    Record,
    default_labels,
    field_text,
    option_lines,
)

Row = Mapping[str, object]
Reader = Callable[[Row, str], Record]

MAX_CHOICES = 100


def multiple_choice(
    row: Row, question: str, choices: list[str], answer: object, *, labels: tuple[str, ...]
) -> Record:
    """A record for a question with options.

    Args:
        row: the columns, which stay available to placeholders.
        question: what is asked, ready to print.
        choices: the options; at least two.
        answer: an int (position from 0) or text (one of `labels`, else digits: a position from 0).
        labels: one per option.

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
    options = tuple(choice.strip() for choice in choices)
    fields = dict(row) | {
        "question": question.strip(),
        "options": option_lines(labels, options),
        "answer": labels[_position(answer, labels)],
    }
    return Record(fields=fields, choices=options, labels=labels)


def _position(answer: object, labels: tuple[str, ...]) -> int:
    if isinstance(answer, bool) or not isinstance(answer, int | str):
        raise BadRow(f"the label is {answer!r}, neither a label nor a position")
    if isinstance(answer, str):
        text = answer.strip()
        if not text:
            raise BadRow("the label is empty (this split may have no answers)")
        if text in labels:
            return labels.index(text)
        if not (text.isascii() and text.isdigit()):
            raise BadRow(f"the label {text!r} is not one of {list(labels)}")
        answer = int(text)
    if not 0 <= answer < len(labels):
        raise BadRow(f"the label is {answer}, but there are {len(labels)} options (counted from 0)")
    return answer


def _text_list(value: object, name: str) -> list[str]:
    if isinstance(value, str):
        # CSV has no lists; a JSON list in the cell is the usual way round it.
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise BadRow(f"column {name!r} is text, but not a JSON list") from None
    if not isinstance(value, list) or not all(isinstance(v, str | int | float) for v in value):
        raise BadRow(f"column {name!r} is not a list of texts")
    return [str(v) for v in value]


def _labelled_choices(row: Row, name: str = "choices") -> tuple[list[str], tuple[str, ...]]:
    """Read `{"text": […], "label": […]}` (ARC, CommonsenseQA, OpenBookQA)."""
    value = row.get(name)
    if not isinstance(value, dict) or not {"text", "label"} <= value.keys():
        raise BadRow(f"column {name!r} is not a record of 'text' and 'label'")
    labels = tuple(label.strip() for label in _text_list(value["label"], f"{name}.label"))
    return _text_list(value["text"], f"{name}.text"), labels


def _is_normalised(row: Row) -> bool:
    return isinstance(row.get("choices"), list) and "label" in row


def read_normalised(row: Row, numbering: str) -> Record:
    """Read `{question, choices: […], label: position}`."""
    choices = _text_list(row.get("choices"), "choices")
    labels = default_labels(len(choices), numbering)
    return multiple_choice(row, field_text(row, "question"), choices, _required(row, "label"), labels=labels)


def _required(row: Row, name: str) -> object:
    if name not in row:
        raise BadRow(f"no column {name!r} (columns: {', '.join(sorted(row)) or 'none'})")
    if row[name] is None:
        raise BadRow(f"column {name!r} is null")
    return row[name]


def _read_keyed(row: Row, numbering: str, *, question: str) -> Record:
    """Read `{QUESTION, choices: {text, label}, answerKey}`."""
    if _is_normalised(row):
        return read_normalised(row, numbering)
    choices, labels = _labelled_choices(row)
    return multiple_choice(
        row, field_text(row, question), choices, _required(row, "answerKey"), labels=labels
    )


def read_arc(row: Row, numbering: str) -> Record:
    """ARC and CommonsenseQA: `question`, `choices{text,label}`, `answerKey`. A few ARC rows use numbers."""
    return _read_keyed(row, numbering, question="question")


def read_openbookqa(row: Row, numbering: str) -> Record:
    """OpenBookQA: `question_stem`, `choices{text,label}`, `answerKey`."""
    return _read_keyed(row, numbering, question="question_stem")


def read_hellaswag(row: Row, numbering: str) -> Record:
    """HellaSwag: `activity_label`, `ctx_a`, `ctx_b`, `endings`, `label` (a position, as text)."""
    if _is_normalised(row):
        return read_normalised(row, numbering)
    context = field_text(row, "ctx_a") + " " + field_text(row, "ctx_b").capitalize()
    question = f"{field_text(row, 'activity_label')}: {_clean_wikihow(context)}"
    endings = [_clean_wikihow(ending) for ending in _text_list(row.get("endings"), "endings")]
    labels = default_labels(len(endings), numbering)
    return multiple_choice(row, question, endings, _required(row, "label"), labels=labels)


def _clean_wikihow(text: str) -> str:
    """Drop the `[header] [title] [step]` marks of HellaSwag's WikiHow half."""
    text = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return text.replace("  ", " ").strip()


def read_mathqa(row: Row, numbering: str) -> Record:
    """MathQA: `Problem`, `options` ("a ) 38 , b ) 27 , …"), `correct` ("a")."""
    if _is_normalised(row):
        return read_normalised(row, numbering)
    choices = _split_mathqa_options(field_text(row, "options"))
    correct = field_text(row, "correct").strip().lower()
    letters = LETTERS.lower()[: len(choices)]
    if len(correct) != 1 or correct not in letters:
        raise BadRow(f"the label {correct!r} is not one of {list(letters)}")
    labels = default_labels(len(choices), numbering)
    return multiple_choice(row, field_text(row, "Problem"), choices, letters.index(correct), labels=labels)


def _split_mathqa_options(text: str) -> list[str]:
    """Split "a ) 38 , b ) f ( x ) , c ) …", or a Python list of such options.

    Each letter is looked for after the one before, so that brackets and commas inside an option stay there.
    """
    text = text.strip()
    if text.startswith("["):
        try:
            options = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise BadRow(f"the options are no list: {text[:80]!r}") from None
        return [re.sub(r"^[a-z]\s*\)\s*", "", option).strip() for option in _text_list(options, "options")]
    found = re.match(r"a\s*\)", text)
    if found is None:
        raise BadRow(f"the options do not read 'a ) … , b ) …': {text[:80]!r}")
    choices, start = [], found.end()
    for letter in LETTERS.lower()[1:]:
        following = re.compile(rf"\s*,\s*{letter}\s*\)").search(text, start)
        if following is None:
            break
        choices.append(text[start : following.start()].strip())
        start = following.end()
    return [*choices, text[start:].strip()]


def read_piqa(row: Row, numbering: str) -> Record:
    """PIQA: `goal`, `sol1`, `sol2`, `label` (0 or 1; −1 in the test split)."""
    if _is_normalised(row):
        return read_normalised(row, numbering)
    choices = [field_text(row, "sol1"), field_text(row, "sol2")]
    labels = default_labels(2, numbering)
    return multiple_choice(row, field_text(row, "goal"), choices, _required(row, "label"), labels=labels)


def read_socialiqa(row: Row, numbering: str) -> Record:
    """SocialIQA: `context`, `question`, `answerA`, `answerB`, `answerC`, `label` ("1" to "3")."""
    if _is_normalised(row):
        return read_normalised(row, numbering)
    question = f"{field_text(row, 'context').strip()} {field_text(row, 'question').strip()}"
    choices = [field_text(row, f"answer{letter}") for letter in "ABC"]
    return multiple_choice(
        row, question, choices, _from_one(row, "label", 3), labels=default_labels(3, numbering)
    )


def read_winogrande(row: Row, numbering: str) -> Record:
    """WinoGrande: `sentence` with a `_`, `option1`, `option2`, `answer` ("1" or "2")."""
    if _is_normalised(row):
        return read_normalised(row, numbering)
    choices = [field_text(row, "option1"), field_text(row, "option2")]
    answer = _from_one(row, "answer", 2)
    return multiple_choice(
        row, field_text(row, "sentence"), choices, answer, labels=default_labels(2, numbering)
    )


def _from_one(row: Row, name: str, count: int) -> int:
    """The position (from 0) behind a label that counts from 1."""
    text = field_text(row, name).strip()
    if not text:
        raise BadRow(f"column {name!r} is empty (this split may have no answers)")
    if text not in {str(i + 1) for i in range(count)}:
        raise BadRow(f"column {name!r} is {text!r}, not a number from 1 to {count}")
    return int(text) - 1


def read_question_answer(row: Row, numbering: str) -> Record:
    """GSM8K: `question` and `answer`, both free text."""
    del numbering
    question, answer = field_text(row, "question").strip(), field_text(row, "answer").strip()
    if not question:
        raise BadRow("the question is empty")
    return Record(fields=dict(row) | {"question": question, "answer": answer})


def read_user(row: Row, numbering: str) -> Record:
    """A user's own rows: multiple choice where there are `choices`, else whatever columns there are.

    Adds `prompt` where it is missing: the question, the options if any, and `Answer:`.
    """
    if row.get("choices") is None:
        fields = dict(row)
        if "prompt" not in fields and isinstance(question := fields.get("question"), str):
            fields["prompt"] = f"{question.strip()}\n{DEFAULT_CUE}"
        return Record(fields=fields)
    question_name = "question" if "question" in row else "prompt"
    question = field_text(row, question_name)
    if isinstance(row["choices"], dict):
        choices, labels = _labelled_choices(row)
    else:
        choices = _text_list(row["choices"], "choices")
        labels = default_labels(len(choices), numbering)
    answer = row["answerKey"] if "answerKey" in row else _required(row, "label")
    record = multiple_choice(row, question, choices, answer, labels=labels)
    if "prompt" in row:
        return record
    prompt = f"{record.fields['question']}\n{record.fields['options']}\n{DEFAULT_CUE}"
    return Record(dict(record.fields) | {"prompt": prompt}, record.choices, record.labels)


READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "arc": read_arc,
        "hellaswag": read_hellaswag,
        "mathqa": read_mathqa,
        "openbookqa": read_openbookqa,
        "piqa": read_piqa,
        "question-answer": read_question_answer,
        "socialiqa": read_socialiqa,
        "user": read_user,
        "winogrande": read_winogrande,
    }
)
