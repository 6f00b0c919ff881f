"""What config.json says of tensors: their places, their ties, and which of them a model does without."""

from __future__ import annotations

import json

import pytest
from architectures import ARCHITECTURES, OTHER_ARCHITECTURES
from safetensors.torch import load_file

from deltavcs.checkpoint.anatomy import Anatomy, anatomy_of
from deltavcs.objects.model import TensorEntry
from deltavcs.oid import BlobId
from deltavcs.porcelain.import_ import import_base
from deltavcs.skeleton.skeleton import build_skeleton
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import raw_tensor, write_checkpoint


def _anatomy(name: str) -> Anatomy:
    model = {**ARCHITECTURES, **OTHER_ARCHITECTURES}[name]()
    model.config.architectures = [type(model).__name__]
    return Anatomy(build_skeleton(json.dumps(model.config.to_dict()).encode()))


def _tensor(dtype: str, *shape: int) -> TensorEntry:
    return TensorEntry(BlobId("0" * 64), dtype, shape)


@pytest.mark.parametrize("name", ["mixtral", "llava", "gpt_neox"])
def test_every_tensor_of_a_saved_model_has_a_place_of_its_own(name, tmp_path):
    ARCHITECTURES[name]().save_pretrained(tmp_path)
    names = list(load_file(tmp_path / "model.safetensors"))
    found = _anatomy(name).places(names)
    assert set(found.of) == set(names)
    assert len(set(found.of.values())) == len(names)


def test_an_expert_has_a_place_in_the_parameter_that_holds_all():
    names = [f"model.layers.0.block_sparse_moe.experts.{i}.w2.weight" for i in range(4)]
    found = _anatomy("mixtral").places(names)
    assert {found.parameters[place] for place in found.of.values()} == {
        "model.layers.0.mlp.experts.down_proj"
    }


def test_names_without_what_training_wraps_around_a_model_have_their_places():
    found = _anatomy("llama").places(["_orig_mod.lm_head.weight", "_orig_mod.model.norm.weight"])
    assert found.of["_orig_mod.lm_head.weight"] == "lm_head.weight"


def test_what_is_tied_is_a_group_with_what_is_saved_first():
    (group,) = _anatomy("bart").tied_groups()
    assert group[0] == "model.shared.weight"
    assert set(group[1:]) == {
        "lm_head.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight",
    }  # fmt: skip
    assert _anatomy("llama").tied_groups() == []


@pytest.mark.parametrize(
    ("model", "name", "tensor", "ignored"),
    [
        ("llama", "model.layers.0.self_attn.rotary_emb.inv_freq", _tensor("F32", 4), True),
        ("gpt2", "transformer.h.0.attn.bias", _tensor("F32", 1, 1, 64, 64), True),
        ("gpt2", "transformer.h.0.attn.masked_bias", _tensor("F32"), True),
        ("bert", "embeddings.position_ids", _tensor("I64", 1, 64), True),
        ("bart", "final_logits_bias", _tensor("F32", 1, 64), True),
        ("deepseek_v3", "model.layers.61.eh_proj.weight", _tensor("F32", 32, 64), True),
        # The pattern of the mask fits the bias of the projection as well, and that is a weight.
        ("gpt2", "transformer.h.0.attn.c_attn.bias", _tensor("F32", 96), False),
        ("llama", "model.norm.weight", _tensor("F32", 32), False),
        ("llama", "v_head.summary.weight", _tensor("F32", 1, 32), False),
        # A buffer, but one that training moves.
        ("deepseek_v3", "model.layers.1.mlp.gate.e_score_correction_bias", _tensor("F32", 4), False),
    ],
)
def test_what_a_model_does_without(model, name, tensor, ignored):
    anatomy = _anatomy(model)
    assert anatomy.ignores(name, anatomy.places([name]).of.get(name, name), tensor) is ignored


@pytest.mark.parametrize("config", [None, b"{", b'{"model_type": "odd"}'])
def test_a_checkpoint_of_no_known_model_has_none(repo, tmp_path, sign, config):
    write_checkpoint(tmp_path / "one", {"a.weight": raw_tensor("F32", (4, 4))})
    if config is not None:
        (tmp_path / "one/config.json").write_bytes(config)
    import_base(repo, str(tmp_path / "one"), draft=Draft("one", signature=sign()))
    assert anatomy_of(repo.objects, repo.manifest(repo.resolve("one"))) is None
