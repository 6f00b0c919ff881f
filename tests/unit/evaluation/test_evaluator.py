from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from scoring import evaluate

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.evaluation.encode import Sample, encode_examples
from deltavcs.evaluation.evaluator import (
    Evaluator,
    SampleScore,
    answer_logits,
    is_out_of_memory,
    summarize,
)
from deltavcs.tasks.catalog import BUILTIN_TASKS
from deltavcs.tasks.definition import with_source
from deltavcs.tasks.reading import read_task
from deltavcs.tasks.sampling import sample_examples
from deltavcs.tasks.template import Example


def by_hand(model: Any, samples: list[Sample]) -> tuple[float, float, float, float]:
    """Loss, sample loss, token accuracy, exact match: one sample at a time, from transformers' own logits."""
    sums, counts, hits, exact = [], [], 0, 0
    for sample in samples:
        with torch.no_grad():
            logits = model(torch.tensor([sample.ids])).logits[0].float()
        nll, right = 0.0, 0
        for t in range(sample.n_prompt, len(sample.ids)):
            row = logits[t - 1]
            nll += (torch.logsumexp(row, 0) - row[sample.ids[t]]).item()
            right += int(row.argmax().item() == sample.ids[t])
        sums.append(nll)
        counts.append(sample.n_answer)
        hits += right
        exact += right == sample.n_answer
    loss = sum(sums) / sum(counts)
    per_sample = sum(s / c for s, c in zip(sums, counts, strict=True)) / len(samples)
    return loss, per_sample, hits / sum(counts), exact / len(samples)


@pytest.mark.parametrize("batch_size", [1, 2, 3, "auto"])
@pytest.mark.parametrize("tied", [False, True])
def test_loss_is_that_of_a_plain_loop(
    make_model: Any, tokenizer: Any, examples: list[Example], tied: bool, batch_size: int | str
) -> None:
    model = make_model(tied=tied)
    loss, per_sample, accuracy, exact = by_hand(model, encode_examples(examples, tokenizer))
    found = evaluate(model, tokenizer, examples, split="train", batch_size=batch_size)
    assert found.loss == pytest.approx(loss, abs=1e-5)
    assert found.sample_loss == pytest.approx(per_sample, abs=1e-5)
    assert found.perplexity == pytest.approx(math.exp(loss), rel=1e-5)
    assert (found.token_accuracy, found.exact_match) == (accuracy, exact)
    assert (found.n_samples, found.n_truncated, found.split) == (7, 0, "train")


@pytest.mark.parametrize("name", ["arc_easy", "piqa", "gsm8k"])
def test_loss_on_a_real_model(stories: tuple[Any, Any], task_folder: Path, name: str) -> None:
    model, tokenizer = stories
    rows = read_task(with_source(BUILTIN_TASKS[name], task_folder))
    examples = sample_examples(rows, 24, seed=5)
    samples = encode_examples(examples, tokenizer, max_length=512)
    loss, per_sample, accuracy, exact = by_hand(model, samples)
    found = evaluate(model, tokenizer, examples, split=rows.split, batch_size=5)
    assert found.loss == pytest.approx(loss, abs=1e-5)
    assert found.sample_loss == pytest.approx(per_sample, abs=1e-5)
    assert (found.token_accuracy, found.exact_match) == (accuracy, exact)
    assert found.n_truncated == sum(sample.truncated for sample in samples)


def test_exact_match_is_what_greedy_decoding_gives(stories: tuple[Any, Any]) -> None:
    model, tokenizer = stories
    samples = []
    for prompt in ("Once upon a time, there was a little", "The big dog", "Lily and Tom went to the"):
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        grown = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=6,
            do_sample=False,
            pad_token_id=tokenizer.eos_token_id,
        )[0].tolist()
        samples.append(Sample(tuple(grown), len(grown) - ids.shape[1]))
    evaluator = Evaluator(pad_id=2)
    right = summarize(samples, evaluator.score(model, samples), split="x")
    assert (right.exact_match, right.token_accuracy) == (1.0, 1.0)
    first = samples[0]
    spoiled = [Sample((*first.ids[:-1], (first.ids[-1] + 1) % 512), first.n_answer), *samples[1:]]
    wrong = summarize(spoiled, evaluator.score(model, spoiled), split="x")
    assert wrong.exact_match == pytest.approx(2 / 3)
    assert wrong.token_accuracy == pytest.approx(17 / 18)


def test_same_bits_every_time_and_in_any_order(
    make_model: Any, tokenizer: Any, examples: list[Example]
) -> None:
    model = make_model()
    model.train()  # dropout of 0.1 must not matter
    first = evaluate(model, tokenizer, examples, split="train", batch_size=3)
    torch.manual_seed(99)
    assert evaluate(model, tokenizer, examples, split="train", batch_size=3) == first
    assert model.training
    samples = encode_examples(examples, tokenizer)
    evaluator = Evaluator(pad_id=0, batch_size=1)
    scores = evaluator.score(model, samples)
    assert evaluator.score(model, samples[::-1]) == scores[::-1]


def test_bfloat16_is_reduced_in_float32(make_model: Any, tokenizer: Any, examples: list[Example]) -> None:
    model = make_model(dtype=torch.bfloat16)
    samples = encode_examples(examples, tokenizer)
    found = evaluate(model, tokenizer, examples, split="train", batch_size=1)
    assert found.loss == pytest.approx(by_hand(model, samples)[0], abs=1e-5)


def test_only_answer_places_reach_the_output_layer(
    make_model: Any, tokenizer: Any, examples: list[Example]
) -> None:
    model = make_model()
    samples = encode_examples(examples, tokenizer)
    shapes = []
    model.lm_head.register_forward_hook(lambda module, args, output: shapes.append(tuple(output.shape)))
    Evaluator(pad_id=0, batch_size=4).score(model, samples)
    assert sum(shape[1] for shape in shapes) == sum(sample.n_answer for sample in samples)
    assert len(shapes) == 2


def test_a_model_that_hides_its_output_layer(
    make_model: Any, tokenizer: Any, examples: list[Example]
) -> None:
    model = make_model()
    samples = encode_examples(examples, tokenizer)
    wanted, _ = answer_logits(model, samples, pad_id=0)
    model.get_output_embeddings = lambda: None
    found, _ = answer_logits(model, samples, pad_id=0)
    torch.testing.assert_close(found, wanted)


def test_soft_capped_logits_are_the_models_own(tokenizer: Any, examples: list[Example]) -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        final_logit_softcapping=2.0,
        initializer_range=0.5,
        pad_token_id=0,
    )
    model = Gemma2ForCausalLM(config).eval()
    found = evaluate(model, tokenizer, examples, split="train", batch_size=1)
    assert found.loss == pytest.approx(by_hand(model, encode_examples(examples, tokenizer))[0], abs=1e-5)


class Hungry:
    """A model that runs out of memory above `limit` samples, as accelerators and the CPU allocator say it."""

    def __init__(self, model: Any, limit: int, error: Exception) -> None:
        self.model, self.limit, self.error, self.tried = model, limit, error, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def __call__(self, input_ids: torch.Tensor, **kwargs: Any) -> Any:
        self.tried.append(len(input_ids))
        if len(input_ids) > self.limit:
            raise self.error
        return self.model(input_ids, **kwargs)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 8589934592 bytes. Error code 12 (Cannot allocate memory)"
    ),
    RuntimeError("MPS backend out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda e: type(e).__name__)
def test_auto_batch_size_backs_off(
    make_model: Any, tokenizer: Any, examples: list[Example], error: Exception
) -> None:
    assert is_out_of_memory(error)
    samples = encode_examples(examples, tokenizer)
    hungry = Hungry(make_model(), 2, error)
    evaluator = Evaluator(pad_id=0)
    scores = evaluator.score(hungry, samples)
    assert hungry.tried == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert scores == Evaluator(pad_id=0, batch_size=1).score(hungry.model, samples)
    assert evaluator.batch_size == 1  # the next candidate starts with what was learned


def test_out_of_memory_with_one_sample_or_a_fixed_size(
    make_model: Any, tokenizer: Any, examples: list[Example]
) -> None:
    samples = encode_examples(examples, tokenizer)
    for limit, batch_size in ((0, "auto"), (2, 4)):
        hungry = Hungry(make_model(), limit, OUT_OF_MEMORY[0])
        with pytest.raises(InvalidInputError) as caught:
            Evaluator(pad_id=0, batch_size=batch_size).score(hungry, samples)
        assert caught.value.kind is ErrorKind.LIMIT_EXCEEDED


def test_other_errors_pass(make_model: Any, tokenizer: Any, examples: list[Example]) -> None:
    hungry = Hungry(make_model(), 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1"):
        Evaluator(pad_id=0).score(hungry, encode_examples(examples, tokenizer))
    assert hungry.tried == [7]


@pytest.mark.parametrize("batch_size", [0, -1, "many", 1.5])
def test_bad_batch_sizes(batch_size: Any) -> None:
    with pytest.raises(InvalidInputError):
        Evaluator(pad_id=0, batch_size=batch_size)


def test_progress(make_model: Any, tokenizer: Any, examples: list[Example]) -> None:
    seen: list[tuple[int, int]] = []
    evaluate(
        make_model(), tokenizer, examples, split="x", batch_size=3, progress=lambda *now: seen.append(now)
    )
    assert seen == [(3, 7), (6, 7), (7, 7)]


def test_summary_of_odd_numbers() -> None:
    samples = [Sample((1, 2), 1, truncated=True), Sample((1, 2), 1)]
    found = summarize(samples, [SampleScore(2000.0, 1, 0), SampleScore(0.0, 1, 1)], split="x")
    assert (found.loss, found.perplexity, found.exact_match, found.n_truncated) == (1000, math.inf, 0.5, 1)
    broken = summarize(samples, [SampleScore(math.nan, 1, 0), SampleScore(1.0, 1, 1)], split="x")
    assert math.isnan(broken.loss)
    with pytest.raises(InvalidInputError):
        summarize([], [], split="x")
