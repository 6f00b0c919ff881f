"""HellaSwag (Zellers et al., 2019): how a description goes on."""

from __future__ import annotations

import re

from deltavcs.tasks.choices import (
    default_labels,
    is_normalised,
    multiple_choice,
    read_normalised,
    text_list,
)
from deltavcs.tasks.datasets.dataset import Dataset, choice_template
from deltavcs.tasks.record import Record, Row, field_text, present_value

HELLASWAG = Dataset(
    name="hellaswag",
    repo_id="Rowan/hellaswag",
    columns="hellaswag",
    template=choice_template(
        "Here is the start of a description. Decide how it most plausibly goes on.", lead="Start"
    ),
)


def read_hellaswag(row: Row, numbering: str) -> Record:
    """HellaSwag: `activity_label`, `ctx_a`, `ctx_b`, `endings`, `label` (a position, as text)."""
    if is_normalised(row):
        return read_normalised(row, numbering)
    # In CSV, an empty second half is null.
    ctx_b = "" if row.get("ctx_b", "") is None else field_text(row, "ctx_b")
    context = f"{field_text(row, 'ctx_a')} {ctx_b[:1].upper()}{ctx_b[1:]}"
    question = f"{field_text(row, 'activity_label')}: {_clean_wikihow(context)}"
    endings = [_clean_wikihow(ending) for ending in text_list(row.get("endings"), "endings")]
    labels = default_labels(len(endings), numbering)
    return multiple_choice(row, question, endings, present_value(row, "label"), labels=labels)


def _clean_wikihow(text: str) -> str:
    """Drop the `[header] [title] [step]` marks of HellaSwag's WikiHow half."""
    text = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return text.replace("  ", " ").strip()
