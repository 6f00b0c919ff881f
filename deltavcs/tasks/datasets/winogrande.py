"""WinoGrande (Sakaguchi et al., 2020): what a blank stands for. Its answers are numbers from 1."""

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

WINOGRANDE = Dataset(
    name="winogrande",
    repo_id="allenai/winogrande",
    config="winogrande_xl",
    columns="winogrande",
    template=choice_template(
        "Here is a sentence with a blank, written _. Decide what belongs in the blank.",
        lead="Sentence",
        numbers=True,
    ),
)


def read_winogrande(row: Row, numbering: str) -> Record:
    """WinoGrande: `sentence` with a `_`, `option1`, `option2`, `answer` ("1" or "2")."""
    if is_normalised(row):
        return read_normalised(row, numbering)
    choices = [field_text(row, "option1"), field_text(row, "option2")]
    answer = position_from_one(row, "answer", 2)
    return multiple_choice(
        row, field_text(row, "sentence"), choices, answer, labels=default_labels(2, numbering)
    )
