"""SocialIQA (Sap et al., 2019): how people feel and act. Its answers are numbers from 1."""

from __future__ import annotations

from deltavcs.tasks.choices import (
    default_labels,
    is_normalised,
    multiple_choice,
    position_from_one,
    read_normalised,
)
from deltavcs.tasks.datasets.dataset import Dataset, choice_template
from deltavcs.tasks.record import Record, Row, field_text

SOCIALIQA = Dataset(
    name="socialiqa",
    repo_id="allenai/social_i_qa",
    columns="socialiqa",
    template=choice_template(
        "Here is a social situation with a question about it.", lead="Situation", numbers=True
    ),
)


def read_socialiqa(row: Row, numbering: str) -> Record:
    """SocialIQA: `context`, `question`, `answerA`, `answerB`, `answerC`, `label` ("1" to "3")."""
    if is_normalised(row):
        return read_normalised(row, numbering)
    question = f"{field_text(row, 'context').strip()} {field_text(row, 'question').strip()}"
    choices = [field_text(row, f"answer{letter}") for letter in "ABC"]
    return multiple_choice(
        row, question, choices, position_from_one(row, "label", 3), labels=default_labels(3, numbering)
    )
