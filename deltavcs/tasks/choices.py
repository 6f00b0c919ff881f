"""What the columns of a dataset mean: one reader per column layout, in one table.

Every reader of a built-in task takes both the dataset's original columns and the normalised
`{question, choices, label}` (`label` counts from 0), and gives the same record where both say the same.

Digits are a position or a label, and which of them depends on the column alone: `answerKey` is always one of
the row's labels; elsewhere digits are a position, unless the row brings labels of its own and writes text.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from deltavcs.tasks.rows import parse_json
from deltavcs.tasks.template import DEFAULT_CUE, BadRow, Record, default_labels, field_text, option_lines

Row = Mapping[str, object]
Reader = Callable[[Row, str], Record]
Finder = Callable[[object, tuple[str, ...]], int]

MAX_CHOICES = 100
MATHQA_LETTERS = "abcde"


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


def _find_either(answer: object, labels: tuple[str, ...]) -> int:
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


def _text_list(value: object, name: str) -> list[str]:
    if isinstance(value, str):
        # CSV has no lists; a JSON list in the cell is the usual way round it.
        try:
            value = parse_json(value)
        except ValueError as exc:
            raise BadRow(f"column {name!r} is text, but not a JSON list: {exc}") from None
    if not isinstance(value, list) or not all(isinstance(v, str | int | float) for v in value):
        raise BadRow(f"column {name!r} is not a list of texts")
    if any(isinstance(v, float) and not math.isfinite(v) for v in value):
        raise BadRow(f"column {name!r} holds a number that is not finite")
    return [str(v) for v in value]


def _labelled_choices(row: Row, name: str = "choices") -> tuple[list[str], tuple[str, ...]]:
    """Read `{"text": […], "label": […]}` (ARC, CommonsenseQA, OpenBookQA)."""
    value = row.get(name)
    if not isinstance(value, dict) or not {"text", "label"} <= value.keys():
        raise BadRow(f"column {name!r} is not a record of 'text' and 'label'")
    labels = tuple(label.strip() for label in _text_list(value["label"], f"{name}.label"))
    return _text_list(value["text"], f"{name}.text"), labels


def _is_normalised(row: Row) -> bool:
    return isinstance(row.get("choices"), list | str) and "label" in row


def read_normalised(row: Row, numbering: str) -> Record:
    """Read `{question, choices: […], label}`: see `find_position` for what `label` says."""
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
    answer = _required(row, "answerKey")
    return multiple_choice(row, field_text(row, question), choices, answer, labels=labels, find=find_label)


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
    # In CSV, an empty second half is null.
    ctx_b = "" if row.get("ctx_b", "") is None else field_text(row, "ctx_b")
    context = f"{field_text(row, 'ctx_a')} {ctx_b[:1].upper()}{ctx_b[1:]}"
    question = f"{field_text(row, 'activity_label')}: {_clean_wikihow(context)}"
    endings = [_clean_wikihow(ending) for ending in _text_list(row.get("endings"), "endings")]
    labels = default_labels(len(endings), numbering)
    return multiple_choice(row, question, endings, _required(row, "label"), labels=labels)


def _clean_wikihow(text: str) -> str:
    """Drop the `[header] [title] [step]` marks of HellaSwag's WikiHow half."""
    text = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return text.replace("  ", " ").strip()


def read_mathqa(row: Row, numbering: str) -> Record:
    """MathQA: `Problem`, `options` ("a ) 38 , b ) 27 , …", up to e), `correct` ("a")."""
    if _is_normalised(row):
        return read_normalised(row, numbering)
    choices = _split_mathqa_options(field_text(row, "options"))
    correct = field_text(row, "correct").strip().lower()
    letters = MATHQA_LETTERS[: len(choices)]
    if len(correct) != 1 or correct not in letters:
        raise BadRow(f"the label {correct!r} is not one of {list(letters)}")
    labels = default_labels(len(choices), numbering)
    return multiple_choice(row, field_text(row, "Problem"), choices, letters.index(correct), labels=labels)


def _split_mathqa_options(text: str) -> list[str]:
    """Split "a ) 38 , b ) f ( x ) , c ) …", or a Python list of such options.

    Raises:
        BadRow: there is no way to split it, or more than one.
    """
    text = text.strip()
    if text.startswith("["):
        return _split_mathqa_list(text)
    found = re.match(r"a\s*\)", text)
    if found is None:
        raise BadRow(f"the options do not read 'a ) … , b ) …': {text[:80]!r}")
    text = text[found.end() :]
    choices = _split_balanced(text)
    return choices if choices is not None else _split_unbalanced(text)


def _split_mathqa_list(text: str) -> list[str]:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as exc:
        raise BadRow(f"the options are no list: {text[:80]!r}") from exc
    options = _text_list(value, "options")
    if len(options) > len(MATHQA_LETTERS):
        raise BadRow(f"{len(options)} options; MathQA has {len(MATHQA_LETTERS)}")
    marked = [re.match(r"\s*([a-e])\s*\)", option) for option in options]
    if not any(marked):
        return options
    if [found and found[1] for found in marked] != list(MATHQA_LETTERS[: len(options)]):
        raise BadRow(f"the options are not marked a, b, c, … in order: {text[:80]!r}")
    return [option[found.end() :] for option, found in zip(options, marked, strict=True) if found]


def _split_balanced(text: str) -> list[str] | None:
    """Split what follows "a )" outside brackets; None if they do not match. There is at most one such split.

    Kinds of brackets are not told apart: "[ 2 , 5 )" is an interval.
    """
    bounds, depth, last = [(0, 0)], 0, len(MATHQA_LETTERS)
    for found in re.finditer(r"[(\[{]|,\s*([b-e])\s*\)|[)\]}]", text):
        if found[0] in "([{":
            depth += 1
        elif depth:
            depth -= 1
        elif len(bounds) < last and found[1] == MATHQA_LETTERS[len(bounds)]:
            bounds.append(found.span())
        else:
            return None
    if depth:
        return None
    choices = _between(text, bounds)
    if len(bounds) < last and re.search(rf",\s*{MATHQA_LETTERS[len(bounds)]}\s*\)\s*\S", choices[-1]):
        # "c ) ( 3 , d ) 4": two options and a bracket too many, or one.
        raise BadRow(f"the options can be split in more than one way, at {choices[-1][:80]!r}")
    return choices


def _split_unbalanced(text: str) -> list[str]:
    """Split what follows "a )" where brackets do not match: every "letter )" must be the next option's."""
    markers = list(re.finditer(r",\s*([b-e])\s*\)", text))
    letters = re.findall(r"\b([a-e])\s*\)", text)
    if [found[1] for found in markers] != letters or letters != list(MATHQA_LETTERS[1 : len(letters) + 1]):
        raise BadRow(f"brackets do not match, and the options cannot be told apart: {text[:80]!r}")
    return _between(text, [(0, 0), *(found.span() for found in markers)])


def _between(text: str, bounds: list[tuple[int, int]]) -> list[str]:
    """The pieces that start where a marker ends and end where the next one starts."""
    ends = [start for start, _ in bounds[1:]] + [len(text)]
    return [text[start:end].strip() for (_, start), end in zip(bounds, ends, strict=True)]


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
    if row.get("answerKey") is not None:
        answer, find = row["answerKey"], find_label
    else:
        answer = _required(row, "label")
        find = _find_either if isinstance(row["choices"], dict) else find_position
    record = multiple_choice(row, question, choices, answer, labels=labels, find=find)
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
