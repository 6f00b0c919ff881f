"""PIQA (Bisk et al., 2020): which of two ways to do something works."""

from __future__ import annotations

from deltavcs.tasks.choices import default_labels, is_normalised, multiple_choice, read_normalised
from deltavcs.tasks.datasets.dataset import Dataset, choice_template
from deltavcs.tasks.record import Record, Row, field_text, present_value

PIQA = Dataset(
    name="piqa",
    repo_id="ybisk/piqa",
    columns="piqa",
    template=choice_template(
        "Here is something a person wants to do. Decide which way would work.", lead="Goal"
    ),
)


def read_piqa(row: Row, numbering: str) -> Record:
    """PIQA: `goal`, `sol1`, `sol2`, `label` (0 or 1; −1 in the test split)."""
    if is_normalised(row):
        return read_normalised(row, numbering)
    choices = [field_text(row, "sol1"), field_text(row, "sol2")]
    labels = default_labels(2, numbering)
    return multiple_choice(row, field_text(row, "goal"), choices, present_value(row, "label"), labels=labels)
