from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from scoring import evaluate

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.evaluation.swap import Exchange, swap
from deltavcs.tasks.template import Example


def saved(model: Any, folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    model.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tied", [False, True])
def test_swapped_equals_freshly_loaded(
    make_model: Any,
    tokenizer: Any,
    examples: list[Example],
    tmp_path: Path,
    tied: bool,
    dtype: torch.dtype,
) -> None:
    from transformers import AutoModelForCausalLM

    states = {seed: saved(make_model(seed=seed, tied=tied), tmp_path / str(seed)) for seed in range(4)}
    assert ("lm_head.weight" in states[1]) != tied
    held = AutoModelForCausalLM.from_pretrained(tmp_path / "0", dtype=dtype)
    addresses = {name: p.data_ptr() for name, p in held.named_parameters()}
    for seed in (1, 2, 3, 1):
        swap(held, {n: (lambda t=t: t) for n, t in states[seed].items()})
        fresh = AutoModelForCausalLM.from_pretrained(tmp_path / str(seed), dtype=dtype)
        found = evaluate(held, tokenizer, examples, split="x", batch_size=3)
        assert found == evaluate(fresh, tokenizer, examples, split="x", batch_size=3)
        for (name, swapped), (other, loaded) in zip(
            held.state_dict().items(), fresh.state_dict().items(), strict=True
        ):
            assert name == other
            assert torch.equal(swapped, loaded)
    assert addresses == {name: p.data_ptr() for name, p in held.named_parameters()}


def test_swapping_a_real_model(stories: tuple[Any, Any], examples: list[Example]) -> None:
    from transformers import AutoModelForCausalLM

    model, tokenizer = stories
    wanted = evaluate(model, tokenizer, examples, split="x")
    state = {n: t.clone() for n, t in model.state_dict().items()}
    other = AutoModelForCausalLM.from_config(model.config).eval()
    assert evaluate(other, tokenizer, examples, split="x") != wanted
    swap(other, state)
    assert evaluate(other, tokenizer, examples, split="x") == wanted


def test_one_incoming_tensor_at_a_time(make_model: Any) -> None:
    model = make_model()
    living: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    counts = []

    def make(shape: torch.Size) -> torch.Tensor:
        tensor = torch.zeros(shape)
        living.add(tensor)
        counts.append(len(living))
        return tensor

    swap(model, {name: (lambda s=t.shape: make(s)) for name, t in model.state_dict().items()})
    assert counts == [1] * len(counts)
    assert len(living) == 0


def test_names_with_and_without_prefix(make_model: Any) -> None:
    model, other = make_model(seed=0), make_model(seed=1)
    state = {name.removeprefix("model."): t for name, t in other.state_dict().items()}
    swap(model, state)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    base = make_model(seed=2).model
    swap(base, {name: t for name, t in other.state_dict().items() if name.startswith("model.")})
    assert torch.equal(base.embed_tokens.weight, other.model.embed_tokens.weight)


def test_tied_weights_given_twice(make_model: Any) -> None:
    model, other = make_model(tied=True), make_model(seed=1, tied=True)
    state = dict(other.state_dict())
    assert {"lm_head.weight", "model.embed_tokens.weight"} <= state.keys()
    swap(model, state)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    parted = state | {"lm_head.weight": state["lm_head.weight"] + 1}
    swap(model, parted)
    assert torch.equal(model.lm_head.weight, parted["lm_head.weight"])
    assert torch.equal(model.model.embed_tokens.weight, state["model.embed_tokens.weight"])
    swap(model, state)
    assert torch.equal(model.lm_head.weight, state["lm_head.weight"])


def test_a_head_that_parted_alone_leaves_the_embedding_alone(make_model: Any) -> None:
    model = make_model(tied=True)
    before = model.model.embed_tokens.weight.clone()
    exchange = Exchange(model, model.state_dict())
    exchange.write(lambda name: before + 1, exchange.affected({"lm_head.weight"}))
    assert torch.equal(model.model.embed_tokens.weight, before)
    assert torch.equal(model.lm_head.weight, before + 1)


def test_what_does_not_fit_is_refused_before_anything_is_written(make_model: Any) -> None:
    model, other = make_model(), make_model(seed=1)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    state = dict(other.state_dict())
    cases = [
        ({k: v for k, v in state.items() if k != "model.norm.weight"}, "lacks model.norm.weight"),
        (state | {"model.extra": torch.zeros(1)}, "has no model.extra"),
        (state | {"model.norm.weight": torch.zeros(1)}, r"shape \[1\], but the model's has \[32\]"),
    ]
    for bad, reason in cases:
        with pytest.raises(InvalidInputError, match=reason) as caught:
            swap(model, bad)
        assert caught.value.kind is ErrorKind.INCOMPATIBLE
        assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
