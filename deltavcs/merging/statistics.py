"""Statistics of a task that two merge methods need: Fisher information and input Gram matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.evaluation.encode import Sample
from deltavcs.evaluation.evaluator import Progress, answer_logits, evaluation_mode
from deltavcs.tasks.record import bad_task

if TYPE_CHECKING:
    import torch

ACCUMULATORS = ("float32", "float64")
_GRAM_BATCH = 8


@dataclass(frozen=True, slots=True)
class GramMatrices:
    """Uncentred second moments of what linear layers are fed.

    Attributes:
        grams: weight name → Σ xᵀx over all inputs x, (in_features, in_features).
        counts: weight name → number of inputs summed, N. RegMean takes the mean, grams ÷ counts.
    """

    grams: Mapping[str, torch.Tensor]
    counts: Mapping[str, int]


def diagonal_fisher(
    model: Any,
    samples: Sequence[Sample],
    *,
    accumulate: str = "float32",
    progress: Progress | None = None,
) -> dict[str, torch.Tensor]:
    """Diagonal of the empirical Fisher information.

        F_j = 1/N Σ_i ( ∂ log p(y_i | x_i; θ) / ∂θ_j )²

    with y_i the task's own answer. Matena & Raffel ("Merging Models with Fisher-Weighted Averaging")
    take the expectation over the model's own answers; the empirical form needs one backward pass per sample.

    Args:
        model: a transformers causal language model. Its gradients are left as they were.
        samples: N samples.
        accumulate: dtype of the sums. Gradients are converted before they are squared, so that half-precision
            models do not underflow in the square.
        progress: called with (samples done, N).

    Returns:
        parameter name → F, shaped like the parameter. A tied parameter stands once, under its first name.

    Raises:
        InvalidInputError: `bad-task` for no samples, `bad-argument` for another dtype.
    """
    import torch

    dtype = _accumulator(accumulate, samples)
    parameters = {name: p for name, p in model.named_parameters() if p.is_floating_point()}
    sums = {name: torch.zeros_like(p, dtype=dtype, requires_grad=False) for name, p in parameters.items()}
    with evaluation_mode(model), _all_trainable(parameters), torch.enable_grad():
        for done, sample in enumerate(samples, start=1):
            _add_squared_gradient(model, sample, parameters, sums)
            if progress is not None:
                progress(done, len(samples))
    for total in sums.values():
        total.div_(len(samples))
    return sums


def _add_squared_gradient(
    model: Any,
    sample: Sample,
    parameters: Mapping[str, torch.Tensor],
    sums: Mapping[str, torch.Tensor],
) -> None:
    import torch

    logits, targets = answer_logits(model, [sample], pad_id=0)
    likelihood = -torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum")
    gradients = torch.autograd.grad(likelihood, list(parameters.values()), allow_unused=True)
    for name, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            sums[name].add_(gradient.to(sums[name].dtype).square_())


def gram_matrices(
    model: Any,
    samples: Sequence[Sample],
    *,
    accumulate: str = "float32",
    select: Callable[[str], bool] = lambda name: True,
    progress: Progress | None = None,
) -> GramMatrices:
    """Input Gram matrices of the linear layers, for RegMean.

        Σ xᵀx,    and the number of rows N: RegMean's G = Σ xᵀx / N (`deltavcs.merging.regmean`)

    over every input row x of every `torch.nn.Linear` (Jin et al., "Dataless Knowledge Fusion by Merging
    Weights of Language Models"): prompt and answer tokens alike, never padding, as only samples of one length
    share a batch. The output layer counts only the places that predict an answer token, and is left out where
    it is tied to the embedding.

    Args:
        model: a transformers causal language model.
        samples: what to feed it.
        accumulate: dtype of product and sum; inputs are converted before they are multiplied.
        select: weight name → whether to gather it. All of an 8B Llama's take about 40 GB in float32, so
            large models go layer by layer.
        progress: called with (samples done, samples in all).

    Raises:
        InvalidInputError: `bad-task` for no samples, `bad-argument` for another dtype.
    """
    import torch

    sums = _GramSums(_accumulator(accumulate, samples))
    layers = {name: module for name, module in _linear_layers(model).items() if select(name)}
    done = 0
    with evaluation_mode(model), torch.no_grad(), _watch_inputs(layers, sums.add):
        for batch in _equal_lengths(samples):
            answer_logits(model, batch, pad_id=0)
            done += len(batch)
            if progress is not None:
                progress(done, len(samples))
    return GramMatrices(grams=sums.grams, counts=sums.counts)


class _GramSums:
    """Running sums of xᵀx by weight name."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.grams: dict[str, torch.Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, name: str, rows: torch.Tensor) -> None:
        flat = rows.detach().reshape(-1, rows.shape[-1]).to(self.dtype)
        self.counts[name] = self.counts.get(name, 0) + flat.shape[0]
        if name in self.grams:
            self.grams[name].addmm_(flat.T, flat)
        else:
            self.grams[name] = flat.T @ flat


def _accumulator(name: str, samples: Sequence[Sample]) -> torch.dtype:
    import torch

    if name not in ACCUMULATORS:
        raise InvalidInputError(
            f"sums are kept in {' or '.join(ACCUMULATORS)}, not in {name!r}", kind=ErrorKind.BAD_ARGUMENT
        )
    if not samples:
        raise bad_task("no samples to gather statistics from")
    return torch.float32 if name == "float32" else torch.float64


@contextmanager
def _all_trainable(parameters: Mapping[str, torch.Tensor]) -> Iterator[None]:
    before = {name: p.requires_grad for name, p in parameters.items()}
    try:
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        yield
    finally:
        for name, parameter in parameters.items():
            parameter.requires_grad_(before[name])


def _linear_layers(model: Any) -> dict[str, Any]:
    """Weight name → module, without an output layer that shares the embedding's weight."""
    import torch

    embedding = model.get_input_embeddings().weight
    return {
        f"{name}.weight": module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module.weight is not embedding
    }


@contextmanager
def _watch_inputs(layers: Mapping[str, Any], add: Callable[[str, torch.Tensor], None]) -> Iterator[None]:
    handles = []

    def hook(name: str) -> Callable[[Any, tuple[Any, ...], Any], None]:
        # A forward hook, not a pre-hook: it sees the rows that answer_logits left to the output layer.
        return lambda module, args, output: add(name, args[0])

    try:
        for name, module in layers.items():
            handles.append(module.register_forward_hook(hook(name)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _equal_lengths(samples: Sequence[Sample]) -> Iterator[list[Sample]]:
    """Batches of samples of one length, longest first, at most `_GRAM_BATCH` each."""
    by_length = sorted(samples, key=lambda sample: -len(sample.ids))
    for _, group in groupby(by_length, key=lambda sample: len(sample.ids)):
        alike = list(group)
        for start in range(0, len(alike), _GRAM_BATCH):
            yield alike[start : start + _GRAM_BATCH]
