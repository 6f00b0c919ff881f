"""A user's own rows, in columns that need no template."""

from __future__ import annotations

from deltavcs.tasks.choices import (
    default_labels,
    find_either,
    find_label,
    find_position,
    labelled_choices,
    multiple_choice,
    text_list,
)
from deltavcs.tasks.record import Record, Row, field_text, present_value
from deltavcs.tasks.template import DEFAULT_CUE


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
        choices, labels = labelled_choices(row)
    else:
        choices = text_list(row["choices"], "choices")
        labels = default_labels(len(choices), numbering)
    if row.get("answerKey") is not None:
        answer, find = row["answerKey"], find_label
    else:
        answer = present_value(row, "label")
        find = find_either if isinstance(row["choices"], dict) else find_position
    record = multiple_choice(row, question, choices, answer, labels=labels, find=find)
    if "prompt" in row:
        return record
    prompt = f"{record.fields['question']}\n{record.fields['options']}\n{DEFAULT_CUE}"
    return Record(dict(record.fields) | {"prompt": prompt}, record.choices, record.labels)
