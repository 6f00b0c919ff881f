"""A model scored on examples in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deltavcs.evaluation.encode import context_length, encode_examples, pad_token
from deltavcs.evaluation.evaluator import Evaluation, Evaluator, Progress, summarize
from deltavcs.tasks.template import Example


def evaluate(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    *,
    split: str,
    batch_size: int | str = "auto",
    progress: Progress | None = None,
) -> Evaluation:
    """Tokenize, score and summarise."""
    samples = encode_examples(examples, tokenizer, max_length=context_length(model, tokenizer))
    evaluator = Evaluator(pad_id=pad_token(tokenizer), batch_size=batch_size)
    return summarize(samples, evaluator.score(model, samples, progress=progress), split=split)
