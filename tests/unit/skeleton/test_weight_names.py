"""Names on disk become names in memory exactly as `from_pretrained` makes them."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file

from deltavcs.errors import InvalidInputError
from deltavcs.skeleton.skeleton import build_skeleton
from deltavcs.skeleton.weight_names import check_fit, match_names, minded

_COMMON = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
_LLAMA = {**_COMMON, "intermediate_size": 48, "max_position_embeddings": 64}
_CONFIGS = {
    "llama": transformers.LlamaConfig(**_LLAMA),
    "mixtral": transformers.MixtralConfig(**_LLAMA, num_local_experts=3, num_key_value_heads=2),
    "qwen2_moe": transformers.Qwen2MoeConfig(
        **_LLAMA, num_experts=3, num_experts_per_tok=2, moe_intermediate_size=16,
        shared_expert_intermediate_size=16, num_key_value_heads=2,
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=sorted(_CONFIGS))
def saved(request, tmp_path_factory):
    """A model as transformers saves it, and the model itself."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(_CONFIGS[request.param])
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    return folder, model


def test_every_parameter_is_put_together_from_the_disk(saved):
    folder, model = saved
    on_disk = load_file(folder / "model.safetensors")
    skeleton = build_skeleton((folder / "config.json").read_bytes())
    names = match_names(skeleton, on_disk)
    assert names.unknown == ()
    made = {}
    for target, source in names.sources.items():
        made |= source.convert(target, [on_disk[n] for n in source.names], skeleton)
    truth = model.state_dict()
    assert set(made) | set(skeleton.tied) == set(truth)
    for name, value in made.items():
        assert torch.equal(value, truth[name]), name


def test_a_checkpoint_without_the_prefix_of_its_head_is_known():
    config = transformers.GPT2Config(vocab_size=64, n_positions=64, n_embd=32, n_layer=1, n_head=4)
    config.architectures = ["GPT2LMHeadModel"]
    skeleton = build_skeleton(json.dumps(config.to_dict()).encode())
    found = match_names(skeleton, ["wte.weight", "transformer.h.0.ln_1.weight", "odd.weight"])
    assert found.in_memory() == {
        "transformer.h.0.ln_1.weight": "transformer.h.0.ln_1.weight",
        "wte.weight": "transformer.wte.weight",
    }
    assert found.unknown == ("odd.weight",)


def test_what_does_not_fit_is_told_without_loading(saved):
    folder, _ = saved
    shapes = {k: tuple(v.shape) for k, v in load_file(folder / "model.safetensors").items()}
    skeleton = build_skeleton((folder / "config.json").read_bytes())
    assert check_fit(skeleton, shapes) == type(check_fit(skeleton, shapes))()
    del shapes["lm_head.weight"]
    shapes |= {"odd": (3,), "model.norm.weight": (31,)}
    fit = check_fit(skeleton, shapes)
    assert fit.missing == ("lm_head.weight",)
    assert fit.unexpected == ("odd",)
    assert fit.mismatched == {"model.norm.weight": ((31,), (32,))}


@pytest.mark.parametrize(
    ("lost", "says"),
    [
        (["experts.2.w1"], r"the checkpoint lacks model\.layers\.0\.\w+\.experts\.2\.w1\.weight$"),
        (["experts.2.w1", "experts.2.w2", "experts.2.w3"], None),
    ],
)
def test_an_expert_that_is_not_whole_is_named(lost, says):
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(_CONFIGS["mixtral"])
    shapes = {
        f"model.layers.{layer}.block_sparse_moe.experts.{i}.{part}.weight": shape
        for layer in range(2)
        for i in range(3)
        for part, shape in (("w1", (48, 32)), ("w2", (32, 48)), ("w3", (48, 32)))
    }
    shapes |= {k: tuple(v.shape) for k, v in model.state_dict().items() if "experts." not in k}
    config = json.loads(model.config.to_json_string())
    skeleton = build_skeleton(json.dumps(config | {"architectures": ["MixtralForCausalLM"]}).encode())
    assert check_fit(skeleton, shapes) == type(check_fit(skeleton, shapes))()
    kept = {k: v for k, v in shapes.items() if "layers.1" in k or not any(part in k for part in lost)}
    if says is None:
        found = check_fit(skeleton, kept).mismatched
        assert found["model.layers.0.mlp.experts.down_proj"] == ((2, 32, 48), (3, 32, 48))
        return
    with pytest.raises(InvalidInputError, match=says):
        check_fit(skeleton, kept)


def test_a_constant_of_older_days_is_not_minded():
    config = transformers.GPT2Config(vocab_size=64, n_positions=64, n_embd=32, n_layer=1, n_head=4)
    skeleton = build_skeleton(json.dumps(config.to_dict()).encode())
    older = ["transformer.h.0.attn.bias", "transformer.h.0.attn.masked_bias", "odd"]
    assert minded(skeleton, ["lm_head.weight"], older) == (["lm_head.weight"], ["odd"])
