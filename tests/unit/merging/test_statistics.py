"""Fisher and Gram statistics against loops that do nothing clever."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from deltavcs.errors import InvalidInputError
from deltavcs.evaluation.encode import Sample, encode_examples
from deltavcs.merging.statistics import diagonal_fisher, gram_matrices
from deltavcs.tasks.template import Example


def fisher_by_hand(model: Any, samples: list[Sample]) -> dict[str, torch.Tensor]:
    total = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in model.named_parameters()}
    for sample in samples:
        model.zero_grad()
        logits = model(torch.tensor([sample.ids])).logits[0]
        chosen = torch.log_softmax(logits.double(), dim=-1)
        likelihood = sum(chosen[t - 1, sample.ids[t]] for t in range(sample.n_prompt, len(sample.ids)))
        likelihood.backward()
        for name, p in model.named_parameters():
            if p.grad is not None:
                total[name] += p.grad.double() ** 2
    model.zero_grad()
    return {name: value / len(samples) for name, value in total.items()}


@pytest.mark.parametrize("accumulate", ["float32", "float64"])
@pytest.mark.parametrize("tied", [False, True])
def test_fisher(
    make_model: Any, tokenizer: Any, examples: list[Example], tied: bool, accumulate: str
) -> None:
    model = make_model(tied=tied)
    samples = encode_examples(examples, tokenizer)
    wanted = fisher_by_hand(model, samples)
    found = diagonal_fisher(model, samples, accumulate=accumulate)
    assert found.keys() == wanted.keys()
    assert ("lm_head.weight" in found) != tied
    for name, value in found.items():
        assert value.dtype == getattr(torch, accumulate)
        assert not value.requires_grad
        torch.testing.assert_close(value.double(), wanted[name], rtol=2e-4, atol=1e-9)
        assert value.sum() > 0


def test_fisher_leaves_the_model_as_it_was(make_model: Any, tokenizer: Any, examples: list[Example]) -> None:
    model = make_model()
    model.model.norm.weight.requires_grad_(False)
    model.lm_head.weight.grad = torch.ones_like(model.lm_head.weight)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    with torch.no_grad():
        found = diagonal_fisher(model, encode_examples(examples[:2], tokenizer))
    assert found["model.norm.weight"].sum() > 0
    assert not model.model.norm.weight.requires_grad
    assert model.lm_head.weight.requires_grad
    assert torch.equal(model.lm_head.weight.grad, torch.ones_like(model.lm_head.weight))
    assert model.model.norm.weight.grad is None
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def grams_by_hand(model: Any, samples: list[Sample]) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    total: dict[str, torch.Tensor] = {}
    counts: dict[str, int] = {}
    inputs: dict[str, torch.Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(
                lambda m, args, name=name: inputs.__setitem__(f"{name}.weight", args[0])
            )
    for sample in samples:
        with torch.no_grad():
            model(torch.tensor([sample.ids]))
        for name, value in inputs.items():
            x = value[0].double()
            if name == "lm_head.weight":
                x = x[sample.n_prompt - 1 : -1]
            total[name] = total.get(name, 0) + x.T @ x
            counts[name] = counts.get(name, 0) + len(x)
    return total, counts


@pytest.mark.parametrize("accumulate", ["float32", "float64"])
def test_gram_matrices(make_model: Any, tokenizer: Any, examples: list[Example], accumulate: str) -> None:
    samples = encode_examples([*examples, *examples[:3]], tokenizer)  # some share a length, so a batch
    wanted, counts = grams_by_hand(make_model(), samples)
    found = gram_matrices(make_model(), samples, accumulate=accumulate)
    assert found.counts == counts
    assert found.counts["lm_head.weight"] == sum(sample.n_answer for sample in samples)
    assert found.counts["model.layers.0.mlp.down_proj.weight"] == sum(len(s.ids) for s in samples)
    for name, value in wanted.items():
        assert found.grams[name].dtype == getattr(torch, accumulate)
        torch.testing.assert_close(found.grams[name].double(), value, rtol=1e-4, atol=1e-4)


def test_gram_matrices_of_a_tied_model_leave_the_output_layer_out(
    make_model: Any, tokenizer: Any, examples: list[Example]
) -> None:
    samples = encode_examples(examples[:1], tokenizer)
    assert "lm_head.weight" not in gram_matrices(make_model(tied=True), samples).grams


def test_gram_matrices_of_chosen_layers(make_model: Any, tokenizer: Any, examples: list[Example]) -> None:
    model = make_model()
    found = gram_matrices(model, encode_examples(examples, tokenizer), select=lambda n: "layers.1." in n)
    assert len(found.grams) == 7
    assert not any(module._forward_hooks for module in model.modules())


def test_bad_arguments(make_model: Any, tokenizer: Any, examples: list[Example]) -> None:
    samples = encode_examples(examples[:1], tokenizer)
    for gather in (diagonal_fisher, gram_matrices):
        with pytest.raises(InvalidInputError):
            gather(make_model(), [])
        with pytest.raises(InvalidInputError):
            gather(make_model(), samples, accumulate="float16")
