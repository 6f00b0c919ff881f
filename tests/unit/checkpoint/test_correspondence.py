"""Which tensor is which, behind the prefixes that wrappers and heads put before names."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from deltavcs.checkpoint.correspondence import correspond, unwrapped
from deltavcs.errors import ErrorKind, InvalidInputError


@dataclass(frozen=True)
class Tensor:
    shape: tuple[int, ...]


LLAMA = {
    "model.embed_tokens.weight": Tensor((64, 8)),
    "model.layers.0.self_attn.q_proj.weight": Tensor((8, 8)),
    "model.layers.0.mlp.up_proj.weight": Tensor((16, 8)),
    "model.layers.0.mlp.down_proj.weight": Tensor((8, 16)),
    "model.norm.weight": Tensor((8,)),
    "lm_head.weight": Tensor((64, 8)),
}
BERT = {
    "embeddings.word_embeddings.weight": Tensor((64, 8)),
    "encoder.layer.0.attention.self.query.weight": Tensor((8, 8)),
    "encoder.layer.0.output.dense.weight": Tensor((8, 16)),
    "pooler.dense.weight": Tensor((8, 8)),
}
HEAD = {"classifier.weight": Tensor((2, 8)), "classifier.bias": Tensor((2,))}


def before(prefix, tensors):
    return {prefix + name: t for name, t in tensors.items()}


def test_names_that_are_the_same_stay_so():
    grown = {**LLAMA, "lm_head.weight": Tensor((70, 8)), **HEAD}
    found = correspond(grown, LLAMA)
    assert found.names == {k: k for k in LLAMA}
    assert (set(found.only_ours), found.only_theirs, found.describe()) == (set(HEAD), (), "")


@pytest.mark.parametrize(
    "prefix",
    ["_orig_mod.", "module.", "_fsdp_wrapped_module.", "_forward_module.", "base_model.model.", "net.",
     "module._orig_mod.", "_orig_mod.module."],
)  # fmt: skip
@pytest.mark.parametrize("tensors", [LLAMA, BERT], ids=["llama", "bert"])
def test_a_prefix_before_all_names(prefix, tensors):
    found = correspond(before(prefix, tensors), tensors)
    assert found.names == {prefix + k: k for k in tensors}
    assert (found.only_ours, found.only_theirs) == ((), ())
    assert found.describe() == f"all names have {prefix} before them"
    assert correspond(tensors, before(prefix, tensors)).describe() == f"all names lack {prefix} before them"


def test_wrappers_within_names():
    wrapped = {
        "_fsdp_wrapped_module." + k.replace("layers.0.", "layers.0._checkpoint_wrapped_module."): t
        for k, t in LLAMA.items()
    }
    found = correspond(wrapped, LLAMA)
    assert list(found.names.values()) == list(LLAMA)
    assert found.describe() == "all names have _fsdp_wrapped_module in them"


def test_two_wrappers_of_one_model():
    found = correspond(before("module.", LLAMA), before("_orig_mod.", LLAMA))
    assert found.names == {f"module.{k}": f"_orig_mod.{k}" for k in LLAMA}


@pytest.mark.parametrize("wrapper", ["", "_orig_mod.", "module."])
def test_a_head_over_a_bare_model_and_the_other_way_round(wrapper):
    whole = before(wrapper, {**before("bert.", BERT), **HEAD})
    found = correspond(whole, BERT)
    assert found.names == {f"{wrapper}bert.{k}": k for k in BERT}
    assert set(found.only_ours) == {wrapper + k for k in HEAD}
    assert correspond(before(wrapper, BERT), {**before("bert.", BERT), **HEAD}).names == {
        wrapper + k: f"bert.{k}" for k in BERT
    }


def test_a_language_model_within_another():
    inner = {k.replace("model.", "model.language_model.", 1): t for k, t in LLAMA.items()}
    seeing = {**inner, "model.vision_tower.patch.weight": Tensor((4, 4))}
    found = correspond(seeing, LLAMA)
    assert found.names == dict(zip(inner, LLAMA, strict=True))
    assert found.only_ours == ("model.vision_tower.patch.weight",)
    assert "spelled otherwise, such as model.language_model.embed_tokens.weight for" in found.describe()


def test_a_prefix_is_found_although_shapes_are_others():
    wide = {k: Tensor((t.shape[0], *(2 * d for d in t.shape[1:]))) for k, t in LLAMA.items()}
    assert correspond(before("_orig_mod.", wide), LLAMA).names == {f"_orig_mod.{k}": k for k in LLAMA}


def test_a_prefix_that_few_names_fit_is_none():
    other = {"head.norm.weight": Tensor((8,)), **{f"block.{i}.w": Tensor((3, i)) for i in range(9)}}
    plain = {"norm.weight": Tensor((8,)), **{f"layer.{i}.w": Tensor((4, i)) for i in range(9)}}
    assert correspond(other, plain).names == {}


@pytest.mark.parametrize(
    "ours",
    [
        {**before("student.", BERT), **before("teacher.", BERT)},
        {**before("_orig_mod.", LLAMA), "lm_head.weight": Tensor((64, 8))},
    ],
    ids=["two prefixes", "with and without"],
)
def test_two_names_do_not_become_one(ours):
    with pytest.raises(InvalidInputError, match="could both be") as caught:
        correspond(ours, BERT if "student.pooler.dense.weight" in ours else LLAMA | HEAD)
    assert caught.value.kind is ErrorKind.INCOMPATIBLE


def test_a_copy_beside_the_model_is_no_doubt():
    averaged = {**LLAMA, **before("ema.", LLAMA)}
    found = correspond(averaged, LLAMA)
    assert found.names == {k: k for k in LLAMA}
    assert found.only_ours == tuple(before("ema.", LLAMA))


def test_names_without_wrappers():
    assert unwrapped(["module._orig_mod.a.b", "module.c"]) == {"a.b": "module._orig_mod.a.b", "c": "module.c"}
    assert unwrapped(["module.a", "b"]) == {"module.a": "module.a", "b": "b"}
