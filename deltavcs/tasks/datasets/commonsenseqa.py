"""CommonsenseQA (Talmor et al., 2019): everyday knowledge. Its columns are those of ARC."""

from __future__ import annotations

from deltavcs.tasks.datasets.dataset import Dataset, choice_template

COMMONSENSEQA = Dataset(
    name="commonsenseqa",
    repo_id="tau/commonsense_qa",
    columns="arc",
    template=choice_template("Here is a question about everyday knowledge."),
)
