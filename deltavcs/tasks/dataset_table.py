"""The built-in tasks: Mashup Learning's eight and GSM8K, by their ids and columns on the Hugging Face Hub.

The wording is ours. As in Mashup Learning §4.1, options are listed with a label each and the answer is the
label; labels are letters, or numbers where the dataset's own answers are numbers written out (SocialIQA,
WinoGrande, a few rows of ARC).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from deltavcs.errors import ErrorKind, NotFoundError
from deltavcs.tasks.definition import HubSource, Task
from deltavcs.tasks.template import Template


def _choice_task(
    name: str,
    hub: HubSource,
    columns: str,
    instruction: str,
    *,
    lead: str = "Question",
    numbers: bool = False,
) -> Task:
    label = "number" if numbers else "letter"
    prompt = (
        f"{instruction} Reply with the {label} of the best option and nothing else.\n\n"
        f"{lead}: {{question}}\n\nOptions:\n{{options}}"
    )
    template = Template(prompt=prompt, numbering="numbers" if numbers else "letters")
    return Task(name=name, template=template, source=hub, columns=columns)


_TASKS = (
    _choice_task(
        "arc_easy",
        HubSource("allenai/ai2_arc", config="ARC-Easy"),
        "arc",
        "Here is a science question from a school test.",
    ),
    _choice_task(
        "commonsenseqa",
        HubSource("tau/commonsense_qa"),
        "arc",
        "Here is a question about everyday knowledge.",
    ),
    _choice_task(
        "hellaswag",
        HubSource("Rowan/hellaswag"),
        "hellaswag",
        "Here is the start of a description. Decide how it most plausibly goes on.",
        lead="Start",
    ),
    _choice_task(
        "mathqa",
        HubSource("allenai/math_qa"),
        "mathqa",
        "Here is a mathematics problem. Work out the result.",
        lead="Problem",
    ),
    _choice_task(
        "openbookqa",
        HubSource("allenai/openbookqa", config="main"),
        "openbookqa",
        "Here is an elementary science question, or a sentence to be completed.",
    ),
    _choice_task(
        "piqa",
        HubSource("ybisk/piqa"),
        "piqa",
        "Here is something a person wants to do. Decide which way would work.",
        lead="Goal",
    ),
    _choice_task(
        "socialiqa",
        HubSource("allenai/social_i_qa"),
        "socialiqa",
        "Here is a social situation with a question about it.",
        lead="Situation",
        numbers=True,
    ),
    _choice_task(
        "winogrande",
        HubSource("allenai/winogrande", config="winogrande_xl"),
        "winogrande",
        "Here is a sentence with a blank, written _. Decide what belongs in the blank.",
        lead="Sentence",
        numbers=True,
    ),
    Task(
        name="gsm8k",
        template=Template(
            prompt=(
                "Solve this word problem step by step. End with #### and the final number.\n\n"
                "Problem: {question}"
            ),
            cue="Solution:",
        ),
        source=HubSource("openai/gsm8k", config="main"),
        columns="question-answer",
    ),
)

BUILTIN_TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in _TASKS})


def builtin_task(name: str) -> Task:
    """The built-in task called `name`.

    Raises:
        NotFoundError: `unknown-source` if there is none.
    """
    task = BUILTIN_TASKS.get(name)
    if task is None:
        raise NotFoundError(
            f"no built-in task {name!r}",
            kind=ErrorKind.UNKNOWN_SOURCE,
            hint="built in: " + ", ".join(BUILTIN_TASKS) + "; your own: dvx task add NAME --file rows.jsonl",
        )
    return task
