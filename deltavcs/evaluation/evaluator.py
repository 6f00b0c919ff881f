"""How well a model gives a task's answers.

For sample i with prompt x and answer tokens y_1 … y_n, nll_i = −Σ_t log p(y_t | x, y_<t). Then

    loss            = Σ_i nll_i / Σ_i n_i           nats per answer token, over all answer tokens
    sample_loss     = mean_i (nll_i / n_i)          every sample weighs the same
    perplexity      = exp(loss)
    token_accuracy  = share of answer tokens that are the most likely token at their place
    exact_match     = share of samples whose every answer token is

A sample matches exactly if and only if greedy decoding from the prompt would begin with the answer, so
nothing needs to be generated. Multiple choice has one answer token with most tokenizers; there `loss` and
`sample_loss` agree, and so do `token_accuracy` and `exact_match`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.evaluation.encode import Sample
from deltavcs.skeleton.skeleton import quiet
from deltavcs.tasks.record import bad_task

if TYPE_CHECKING:
    import torch

# Raised when the same model, samples and seed would give another number. 1 left weights that a checkpoint
# lacks at random values.
EVALUATOR_VERSION = 2

AUTO_BATCH_SIZE = 32
_CHUNK_ELEMENTS = 1 << 24  # float32 log-probabilities held at once: 64 MiB
_OUT_OF_MEMORY_TEXTS = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "alloc_failed",
)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class SampleScore:
    """One sample's result.

    Attributes:
        nll: −log likelihood of the answer, in nats, summed over its tokens.
        n_tokens: answer tokens.
        n_correct: answer tokens that are the most likely at their place.
    """

    nll: float
    n_tokens: int
    n_correct: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model's result on a task; see the module's formulas.

    Attributes:
        loss: nats per answer token; NaN or infinite if the model's output is.
        sample_loss: the same, every sample weighing alike.
        perplexity: exp(loss); infinite where that overflows.
        token_accuracy: 0 to 1.
        exact_match: 0 to 1.
        n_samples: samples scored.
        n_answer_tokens: answer tokens scored.
        n_truncated: samples that did not fit the context.
        split: where the samples come from.
        evaluator_version: `EVALUATOR_VERSION` at the time.
    """

    loss: float
    sample_loss: float
    perplexity: float
    token_accuracy: float
    exact_match: float
    n_samples: int
    n_answer_tokens: int
    n_truncated: int
    split: str
    evaluator_version: int = EVALUATOR_VERSION


class Evaluator:
    """Scores samples with a model, in batches of right-padded rows of like length.

    Keep one per model and device: with `batch_size="auto"` it starts at 32 and halves whenever memory runs
    out, and what it learned serves the next candidate. Not thread-safe. The result does not depend on the
    batch size beyond float error, nor on global seeds: the model runs in evaluation mode.

    Args:
        pad_id: token that fills up rows.
        batch_size: samples per forward pass, or `"auto"`.
    """

    def __init__(self, *, pad_id: int, batch_size: int | str = "auto") -> None:
        if batch_size != "auto" and (not isinstance(batch_size, int) or batch_size < 1):
            raise InvalidInputError(
                f"batch size {batch_size!r} is neither a positive number nor 'auto'",
                kind=ErrorKind.BAD_ARGUMENT,
            )
        self.pad_id = pad_id
        self.adaptive = batch_size == "auto"
        self.batch_size = AUTO_BATCH_SIZE if isinstance(batch_size, str) else batch_size

    def score(
        self, model: Any, samples: Sequence[Sample], *, progress: Progress | None = None
    ) -> list[SampleScore]:
        """Score every sample; results in the order of `samples`.

        Longest first, so that memory runs out at once or not at all.

        Args:
            model: a transformers causal language model, on any device, in any float dtype.
            samples: what to score.
            progress: called with (samples done, samples in all) after each batch.

        Raises:
            InvalidInputError: `limit-exceeded` if not even one sample fits into memory (or, with a fixed
                batch size, not that many).
        """
        import torch

        order = sorted(range(len(samples)), key=lambda i: (-len(samples[i].ids), i))
        scores: dict[int, SampleScore] = {}
        with torch.inference_mode(), evaluation_mode(model):
            while len(scores) < len(order):
                chosen = order[len(scores) : len(scores) + self.batch_size]
                found = self._attempt(model, [samples[i] for i in chosen])
                if found is None:
                    self._back_off(len(chosen))
                    continue
                scores.update(zip(chosen, found, strict=True))
                if progress is not None:
                    progress(len(scores), len(order))
        return [scores[i] for i in range(len(samples))]

    def _attempt(self, model: Any, batch: list[Sample]) -> list[SampleScore] | None:
        """Score one batch; None if memory ran out. Returning drops the failed attempt's tensors."""
        try:
            return score_batch(model, batch, pad_id=self.pad_id)
        except (RuntimeError, MemoryError) as exc:
            if not is_out_of_memory(exc):
                raise
            return None

    def _back_off(self, tried: int) -> None:
        if not self.adaptive or tried == 1:
            raise InvalidInputError(
                f"out of memory with {tried} sample{'s' if tried > 1 else ''} at a time",
                kind=ErrorKind.LIMIT_EXCEEDED,
                advice=Advice.USE_LESS_MEMORY,
            )
        self.batch_size = max(1, min(tried, self.batch_size) // 2)
        _release_memory()


def summarize(samples: Sequence[Sample], scores: Sequence[SampleScore], *, split: str) -> Evaluation:
    """Put per-sample results together. Sums are exact (`math.fsum`), so order makes no difference.

    Raises:
        InvalidInputError: `bad-task` if there are no samples.
    """
    if not scores:
        raise bad_task("no samples to evaluate on")
    n_tokens = sum(score.n_tokens for score in scores)
    loss = math.fsum(score.nll for score in scores) / n_tokens
    return Evaluation(
        loss=loss,
        sample_loss=math.fsum(score.nll / score.n_tokens for score in scores) / len(scores),
        perplexity=_exp(loss),
        token_accuracy=sum(score.n_correct for score in scores) / n_tokens,
        exact_match=sum(score.n_correct == score.n_tokens for score in scores) / len(scores),
        n_samples=len(scores),
        n_answer_tokens=n_tokens,
        n_truncated=sum(sample.truncated for sample in samples),
        split=split,
    )


def score_batch(model: Any, batch: Sequence[Sample], *, pad_id: int) -> list[SampleScore]:
    """One forward pass; log-softmax in float32, in chunks."""
    import torch

    logits, targets = answer_logits(model, batch, pad_id=pad_id)
    nlls: list[float] = []
    hits: list[bool] = []
    rows = max(1, _CHUNK_ELEMENTS // logits.shape[-1])
    for start in range(0, len(targets), rows):
        some, wanted = logits[start : start + rows], targets[start : start + rows]
        nll = torch.nn.functional.cross_entropy(some.float(), wanted, reduction="none")
        nlls.extend(nll.tolist())
        hits.extend((some.argmax(dim=-1) == wanted).tolist())
    scores, first = [], 0
    for sample in batch:
        end = first + sample.n_answer
        scores.append(SampleScore(math.fsum(nlls[first:end]), sample.n_answer, sum(hits[first:end])))
        first = end
    return scores


def answer_logits(model: Any, batch: Sequence[Sample], *, pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits at the places that predict answer tokens, and those tokens.

    The model's output layer is given only these places, so prompt logits, by far the largest tensor of a
    forward pass, are never computed; whatever the model does to logits afterwards (scaling, soft-capping)
    still happens.

    Args:
        model: a transformers causal language model.
        batch: N answer tokens in all.
        pad_id: token that fills up rows.

    Returns:
        (N, vocabulary) in the model's dtype and (N,) int64, by sample, then place.
    """
    import torch

    length = max(len(sample.ids) for sample in batch)
    ids = torch.full((len(batch), length), pad_id, dtype=torch.long)
    attention = torch.zeros_like(ids)
    predicts = torch.zeros_like(ids, dtype=torch.bool)
    targets: list[int] = []
    for row, sample in enumerate(batch):
        end = len(sample.ids)
        ids[row, :end] = torch.tensor(sample.ids)
        attention[row, :end] = 1
        predicts[row, sample.n_prompt - 1 : end - 1] = True
        targets.extend(sample.ids[sample.n_prompt :])
    device = model.get_input_embeddings().weight.device
    inputs = {"input_ids": ids.to(device), "attention_mask": attention.to(device), "use_cache": False}
    with _only_rows(model, predicts) as reduced:
        logits = model(**inputs).logits
    picked = logits[0] if reduced and logits.shape[:2] == (1, len(targets)) else None
    if picked is None:  # an output layer out of reach: compute all logits
        full = model(**inputs).logits if reduced else logits
        # Prompt tuning puts tokens of its own before ours.
        picked = full[:, -length:][predicts.to(full.device)]
    return picked, torch.tensor(targets, device=picked.device)


@contextmanager
def _only_rows(model: Any, wanted: torch.Tensor) -> Iterator[list[bool]]:
    """Have the output layer see only the rows of `wanted` (batch, length); yields [] until it did."""
    seen: list[bool] = []

    def pick(module: object, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        hidden = args[0] if args else None
        if hidden is None or hidden.shape[:2] != wanted.shape:
            return None
        seen.append(True)
        return (hidden[wanted.to(hidden.device)].unsqueeze(0), *args[1:])

    head = model.get_output_embeddings()
    if head is None:
        yield seen
        return
    handle = head.register_forward_pre_hook(pick)
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:
    """Turn dropout off, and back on afterwards if it was on; transformers says nothing meanwhile."""
    training = bool(model.training)
    model.eval()
    try:
        with quiet():
            yield
    finally:
        if training:
            model.train()


def is_out_of_memory(exc: BaseException) -> bool:
    """True for torch's accelerator error, its CPU allocator's RuntimeError and Python's own MemoryError."""
    import torch

    if isinstance(exc, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(exc).lower()
    return isinstance(exc, RuntimeError) and any(part in text for part in _OUT_OF_MEMORY_TEXTS)


def _release_memory() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
