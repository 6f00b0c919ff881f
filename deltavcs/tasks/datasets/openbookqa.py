"""OpenBookQA (Mihaylov et al., 2018): elementary science."""

from __future__ import annotations

from deltavcs.tasks.choices import read_keyed
from deltavcs.tasks.datasets.dataset import Dataset, choice_template
from deltavcs.tasks.record import Record, Row

OPENBOOKQA = Dataset(
    name="openbookqa",
    repo_id="allenai/openbookqa",
    config="main",
    columns="openbookqa",
    template=choice_template("Here is an elementary science question, or a sentence to be completed."),
)


def read_openbookqa(row: Row, numbering: str) -> Record:
    """OpenBookQA: `question_stem`, `choices{text,label}`, `answerKey`."""
    return read_keyed(row, numbering, question="question_stem")
