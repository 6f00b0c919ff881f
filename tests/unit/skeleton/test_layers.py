"""What layers do with their weights."""

from __future__ import annotations

from architectures import ARCHITECTURES

from deltavcs.skeleton.layers import lies_transposed, own_parameters, stacked_transposed
from deltavcs.skeleton.skeleton import Skeleton


def skeleton(name: str) -> Skeleton:
    model = ARCHITECTURES[name]()
    return Skeleton(model.config, model)


def test_the_order_of_a_matrix():
    found = skeleton("gpt2")
    assert lies_transposed(found, "transformer.h.0.attn.c_proj.weight") is True
    assert lies_transposed(found, "lm_head.weight") is False
    assert lies_transposed(found, "transformer.h.0.attn.nothing.weight") is None
    assert lies_transposed(found, "transformer.h.0.attn.nothing") is None


def test_a_stack_of_experts():
    found = skeleton("mixtral")
    experts = "model.layers.0.mlp.experts"
    assert own_parameters(found, experts) == ("gate_up_proj", "down_proj")
    assert own_parameters(found, "model.nothing") == ()
    assert not stacked_transposed(found, f"{experts}.down_proj")
