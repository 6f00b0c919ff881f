"""MathQA (Amini et al., 2019): word problems whose options are one text that has to be split."""

from __future__ import annotations

import ast
import re

from deltavcs.tasks.choices import default_labels, is_normalised, multiple_choice, read_normalised, text_list
from deltavcs.tasks.datasets.dataset import Dataset, choice_template
from deltavcs.tasks.record import BadRow, Record, Row, field_text

MATHQA = Dataset(
    name="mathqa",
    repo_id="allenai/math_qa",
    columns="mathqa",
    template=choice_template("Here is a mathematics problem. Work out the result.", lead="Problem"),
)
_LETTERS = "abcde"


def read_mathqa(row: Row, numbering: str) -> Record:
    """MathQA: `Problem`, `options` ("a ) 38 , b ) 27 , …", up to e), `correct` ("a")."""
    if is_normalised(row):
        return read_normalised(row, numbering)
    choices = _split_options(field_text(row, "options"))
    correct = field_text(row, "correct").strip().lower()
    letters = _LETTERS[: len(choices)]
    if len(correct) != 1 or correct not in letters:
        raise BadRow(f"the label {correct!r} is not one of {list(letters)}")
    labels = default_labels(len(choices), numbering)
    return multiple_choice(row, field_text(row, "Problem"), choices, letters.index(correct), labels=labels)


def _split_options(text: str) -> list[str]:
    """Split "a ) 38 , b ) f ( x ) , c ) …", or a Python list of such options.

    Raises:
        BadRow: there is no way to split it, or more than one.
    """
    text = text.strip()
    if text.startswith("["):
        return _split_list(text)
    found = re.match(r"a\s*\)", text)
    if found is None:
        raise BadRow(f"the options do not read 'a ) … , b ) …': {text[:80]!r}")
    text = text[found.end() :]
    choices = _split_balanced(text)
    return choices if choices is not None else _split_unbalanced(text)


def _split_list(text: str) -> list[str]:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as exc:
        raise BadRow(f"the options are no list: {text[:80]!r}") from exc
    options = text_list(value, "options")
    if len(options) > len(_LETTERS):
        raise BadRow(f"{len(options)} options; MathQA has {len(_LETTERS)}")
    marked = [re.match(r"\s*([a-e])\s*\)", option) for option in options]
    if not any(marked):
        return options
    if [found and found[1] for found in marked] != list(_LETTERS[: len(options)]):
        raise BadRow(f"the options are not marked a, b, c, … in order: {text[:80]!r}")
    return [option[found.end() :] for option, found in zip(options, marked, strict=True) if found]


def _split_balanced(text: str) -> list[str] | None:
    """Split what follows "a )" outside brackets; None if they do not match. There is at most one such split.

    Kinds of brackets are not told apart: "[ 2 , 5 )" is an interval.
    """
    bounds, depth, last = [(0, 0)], 0, len(_LETTERS)
    for found in re.finditer(r"[(\[{]|,\s*([b-e])\s*\)|[)\]}]", text):
        if found[0] in "([{":
            depth += 1
        elif depth:
            depth -= 1
        elif len(bounds) < last and found[1] == _LETTERS[len(bounds)]:
            bounds.append(found.span())
        else:
            return None
    if depth:
        return None
    choices = _between(text, bounds)
    if len(bounds) < last and re.search(rf",\s*{_LETTERS[len(bounds)]}\s*\)\s*\S", choices[-1]):
        # "c ) ( 3 , d ) 4": two options and a bracket too many, or one.
        raise BadRow(f"the options can be split in more than one way, at {choices[-1][:80]!r}")
    return choices


def _split_unbalanced(text: str) -> list[str]:
    """Split what follows "a )" where brackets do not match: every "letter )" must be the next option's."""
    markers = list(re.finditer(r",\s*([b-e])\s*\)", text))
    letters = re.findall(r"\b([a-e])\s*\)", text)
    if [found[1] for found in markers] != letters or letters != list(_LETTERS[1 : len(letters) + 1]):
        raise BadRow(f"brackets do not match, and the options cannot be told apart: {text[:80]!r}")
    return _between(text, [(0, 0), *(found.span() for found in markers)])


def _between(text: str, bounds: list[tuple[int, int]]) -> list[str]:
    """The pieces that start where a marker ends and end where the next one starts."""
    ends = [start for start, _ in bounds[1:]] + [len(text)]
    return [text[start:end].strip() for (_, start), end in zip(bounds, ends, strict=True)]
