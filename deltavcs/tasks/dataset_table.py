"""What is built in: the eight tasks of Mashup Learning and GSM8K, and a reader for each way to name columns.

A new task is a file in `datasets`, a line in `DATASETS`, and a line in `READERS` if its columns are new.
Names and keys are stored in repositories: they stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from deltavcs.tasks.datasets import (
    arc,
    commonsenseqa,
    gsm8k,
    hellaswag,
    mathqa,
    openbookqa,
    piqa,
    socialiqa,
    user,
    winogrande,
)
from deltavcs.tasks.datasets.dataset import Dataset
from deltavcs.tasks.record import RecordReader

DATASETS: tuple[Dataset, ...] = (
    arc.ARC_EASY,
    commonsenseqa.COMMONSENSEQA,
    hellaswag.HELLASWAG,
    mathqa.MATHQA,
    openbookqa.OPENBOOKQA,
    piqa.PIQA,
    socialiqa.SOCIALIQA,
    winogrande.WINOGRANDE,
    gsm8k.GSM8K,
)

READERS: Mapping[str, RecordReader] = MappingProxyType(
    {
        "arc": arc.read_arc,
        "hellaswag": hellaswag.read_hellaswag,
        "mathqa": mathqa.read_mathqa,
        "openbookqa": openbookqa.read_openbookqa,
        "piqa": piqa.read_piqa,
        "question-answer": gsm8k.read_question_answer,
        "socialiqa": socialiqa.read_socialiqa,
        "user": user.read_user,
        "winogrande": winogrande.read_winogrande,
    }
)
