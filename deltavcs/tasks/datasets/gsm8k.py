"""GSM8K (Cobbe et al., 2021): word problems with worked solutions."""

from __future__ import annotations

from deltavcs.tasks.datasets.dataset import Dataset
from deltavcs.tasks.record import BadRow, Record, Row, field_text
from deltavcs.tasks.template import Template

GSM8K = Dataset(
    name="gsm8k",
    repo_id="openai/gsm8k",
    config="main",
    columns="question-answer",
    template=Template(
        prompt=(
            "Solve this word problem step by step. End with #### and the final number.\n\nProblem: {question}"
        ),
        cue="Solution:",
    ),
)


def read_question_answer(row: Row, numbering: str) -> Record:
    """GSM8K: `question` and `answer`, both free text."""
    del numbering
    question, answer = field_text(row, "question").strip(), field_text(row, "answer").strip()
    if not question:
        raise BadRow("the question is empty")
    return Record(fields=dict(row) | {"question": question, "answer": answer})
