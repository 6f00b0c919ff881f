"""ARC (Clark et al., 2018): science questions from school tests."""

from __future__ import annotations

from deltavcs.tasks.choices import read_keyed
from deltavcs.tasks.datasets.dataset import Dataset, choice_template
from deltavcs.tasks.record import Record, Row

ARC_EASY = Dataset(
    name="arc_easy",
    repo_id="allenai/ai2_arc",
    config="ARC-Easy",
    columns="arc",
    template=choice_template("Here is a science question from a school test."),
)


def read_arc(row: Row, numbering: str) -> Record:
    """ARC and CommonsenseQA: `question`, `choices{text,label}`, `answerKey`. A few ARC rows use numbers."""
    return read_keyed(row, numbering, question="question")
