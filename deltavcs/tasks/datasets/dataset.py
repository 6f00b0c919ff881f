"""What a built-in task is before it has a place in a repository."""

from __future__ import annotations

from dataclasses import dataclass

from deltavcs.tasks.template import Template


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset of the Hugging Face Hub and how its rows are asked.

    Attributes:
        name: of the task.
        repo_id: `OWNER/NAME` on the Hub.
        columns: what the columns mean; a key of `deltavcs.tasks.dataset_table.READERS`.
        template: the wording, which is ours.
        config: the dataset's configuration, or None.
    """

    name: str
    repo_id: str
    columns: str
    template: Template
    config: str | None = None


def choice_template(instruction: str, *, lead: str = "Question", numbers: bool = False) -> Template:
    """How multiple choice is asked.

    As in Mashup Learning §4.1, options are listed with a label each and the answer is the label; labels are
    letters, or numbers where the dataset's own answers are numbers written out.

    Args:
        instruction: the first sentences.
        lead: stands before the question.
        numbers: label the options of rows without labels by numbers.
    """
    label = "number" if numbers else "letter"
    prompt = (
        f"{instruction} Reply with the {label} of the best option and nothing else.\n\n"
        f"{lead}: {{question}}\n\nOptions:\n{{options}}"
    )
    return Template(prompt=prompt, numbering="numbers" if numbers else "letters")
