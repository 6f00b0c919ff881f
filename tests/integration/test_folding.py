"""Adapters folded into their base, against what PEFT's own merge gives, on tiny models of many families."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from architectures import ARCHITECTURES, OTHER_ARCHITECTURES, word_tokenizer
from peft import PeftModel, TrainableTokensConfig
from peft_folds import (
    Trained,
    copy_of,
    difference,
    edit_tensors,
    fold,
    logits,
    lora,
    moved,
    rename_tensors,
    stored,
    train,
)
from safetensors.torch import load_file, save_file

from deltavcs.errors import InvalidInputError
from deltavcs.porcelain.checkout import checkout, checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.load import load_model
from deltavcs.repo import init_repository
from deltavcs.steps.recording import Draft

# PEFT's advice about training, to people who only fold.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
_CLOSE = 1e-6
_FAMILIES = {**ARCHITECTURES, **OTHER_ARCHITECTURES}
# PEFT refuses `out_proj` of Mamba, and with it all linear layers.
_TARGETS: dict[str, Any] = {"mamba": ["in_proj", "x_proj"]}
_OF_EXPERTS = ["experts.gate_up_proj", "experts.down_proj"]


@pytest.mark.parametrize("name", _FAMILIES)
def test_linear_layers_of_a_family(tmp_path: Path, name: str) -> None:
    made = train(tmp_path, _FAMILIES[name](), lora(target_modules=_TARGETS.get(name, "all-linear")))
    fold(tmp_path, made)
    assert difference(tmp_path / "out", made.merged()) <= _CLOSE


@pytest.mark.parametrize("name", ["mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "deepseek_v3", "jamba"])
def test_stacked_experts_are_folded_onto_the_tensors_of_each(tmp_path: Path, name: str) -> None:
    # In memory all experts are one parameter; on disk each has tensors of its own.
    config = lora(
        target_modules=["q_proj"], target_parameters=_OF_EXPERTS, rank_pattern={"experts.down_proj": 2},
        alpha_pattern={r".*down_proj": 64},
    )  # fmt: skip
    made = train(tmp_path, _FAMILIES[name](), config)
    fold(tmp_path, made)
    assert difference(tmp_path / "out", made.merged()) <= _CLOSE
    assert (
        load_file(tmp_path / "out/model.safetensors").keys()
        == load_file(made.base / "model.safetensors").keys()
    )


@pytest.mark.parametrize(
    ("name", "targets"),
    [("mixtral", ("q_proj", "w1", "w2", "w3")), ("qwen3_moe", ("gate_proj", "up_proj", "down_proj"))],
)
def test_adapters_from_when_each_expert_was_a_module(tmp_path: Path, name: str, targets: Any) -> None:
    model = _FAMILIES[name]()
    model.save_pretrained(tmp_path / "base")
    factors = {}
    for key, weight in load_file(tmp_path / "base/model.safetensors").items():
        if key.removesuffix(".weight").endswith(targets):
            factors[f"base_model.model.{key[:-7]}.lora_A.weight"] = torch.randn(4, weight.shape[1]) * 0.1
            factors[f"base_model.model.{key[:-7]}.lora_B.weight"] = torch.randn(weight.shape[0], 4) * 0.1
    lora(target_modules=list(targets), task_type="CAUSAL_LM").save_pretrained(tmp_path / "lora")
    save_file(factors, tmp_path / "lora/adapter_model.safetensors")
    made = Trained(tmp_path / "base", tmp_path / "lora", PeftModel.from_pretrained(model, tmp_path / "lora"))
    fold(tmp_path, made)
    assert difference(tmp_path / "out", made.merged()) <= _CLOSE


_SETTINGS = {
    "rank-stabilised": {"target_modules": ["q_proj"], "use_rslora": True},
    "patterns": {
        "target_modules": ["q_proj", "o_proj", "v_proj"],
        "rank_pattern": {"layers.0.self_attn.q_proj": 2, r"^model\.layers\.1\.self_attn\.v_proj": 8},
        "alpha_pattern": {r"layers\.1\..*": 32, "proj": 16, "o_proj": 64},
    },
    "some layers": {"target_modules": ["q_proj"], "layers_to_transform": [1]},
    "without some": {"target_modules": "all-linear", "exclude_modules": ["down_proj"]},
    "norms whole": {"target_modules": ["q_proj"], "modules_to_save": ["norm", "input_layernorm"]},
    "embedding": {"target_modules": ["embed_tokens", "q_proj"]},
    "head": {"target_modules": ["lm_head"]},
    "weight as a parameter": {"target_modules": [], "target_parameters": ["mlp.gate_proj.weight"]},
    "tokens": {"target_modules": ["q_proj"], "trainable_token_indices": [5, 6, 61]},
    "dora": {"target_modules": ["q_proj", "v_proj"], "use_dora": True},
    "dora of an embedding": {"target_modules": ["embed_tokens", "lm_head"], "use_dora": True},
    "eva": {"target_modules": ["q_proj"], "init_lora_weights": "eva"},
    "mica": {"target_modules": ["q_proj"], "init_lora_weights": "mica"},
    "orthogonal": {"target_modules": ["q_proj"], "init_lora_weights": "orthogonal"},
}


@pytest.mark.parametrize("name", _SETTINGS)
def test_a_setting_of_lora(tmp_path: Path, name: str) -> None:
    made = train(tmp_path, ARCHITECTURES["llama"](), lora(task_type="CAUSAL_LM", **_SETTINGS[name]))
    fold(tmp_path, made)
    assert difference(tmp_path / "out", made.merged()) <= _CLOSE


_OF_OTHERS = {
    "a bias of B": ("gpt2", {"target_modules": ["c_attn", "c_proj"], "lora_bias": True}),
    "all biases": ("bert", {"target_modules": ["query"], "bias": "all"}),
    "biases of adapted layers": ("gpt2", {"target_modules": ["c_attn"], "bias": "lora_only"}),
    "dora of Conv1D": ("gpt2", {"target_modules": ["c_attn", "c_proj"], "use_dora": True}),
    "a parameter of Conv1D": ("gpt2", {"target_modules": [], "target_parameters": ["attn.c_proj.weight"]}),
    "a convolution": ("llava", {"target_modules": ["patch_embedding"]}),
    "dora of a convolution": ("llava", {"target_modules": ["patch_embedding"], "use_dora": True}),
    "tokens of three tied embeddings": ("t5", {"target_modules": ["q"], "trainable_token_indices": [1, 2]}),
}


@pytest.mark.parametrize("name", _OF_OTHERS)
def test_a_setting_of_another_family(tmp_path: Path, name: str) -> None:
    family, settings = _OF_OTHERS[name]
    made = train(tmp_path, _FAMILIES[family](), lora(**settings))
    fold(tmp_path, made)
    assert difference(tmp_path / "out", made.merged()) <= _CLOSE


def test_one_rounding_to_bfloat16(tmp_path: Path) -> None:
    made = train(tmp_path, ARCHITECTURES["llama"]().bfloat16(), lora(target_modules=["q_proj"]))
    fold(tmp_path, made)
    key = "model.layers.0.self_attn.q_proj"
    factors = load_file(made.lora / "adapter_model.safetensors")
    a, b = (factors[f"base_model.model.{key}.lora_{side}.weight"].double() for side in "AB")
    weight = load_file(made.base / "model.safetensors")[f"{key}.weight"].double()
    found = load_file(tmp_path / "out/model.safetensors")[f"{key}.weight"]
    assert torch.equal(found, (weight + 2 * (b @ a)).bfloat16())


def test_square_layers_of_two_orders_in_one_adapter(tmp_path: Path) -> None:
    # c_proj is Conv1D and square, lm_head Linear; the flag in the configuration is of the last one seen.
    model = ARCHITECTURES["gpt2"]()
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
    made = train(tmp_path, model, lora(target_modules=["attn.c_proj", "lm_head"]))
    fold(tmp_path, made)
    assert difference(tmp_path / "out", made.merged()) <= _CLOSE


_HEADS = {
    "llama": ("AutoModelForSequenceClassification", "SEQ_CLS", ["q_proj"]),
    "llama-tied": ("AutoModelForSequenceClassification", "SEQ_CLS", ["q_proj"]),
    "qwen2": ("AutoModelForTokenClassification", "TOKEN_CLS", ["q_proj"]),
    "bert": ("AutoModelForTokenClassification", "TOKEN_CLS", ["query"]),
    "gpt2-bare": ("AutoModelForSequenceClassification", "SEQ_CLS", ["c_attn", "c_proj"]),
}


@pytest.mark.parametrize("name", _HEADS)
def test_a_new_head(tmp_path: Path, name: str) -> None:
    class_name, task, targets = _HEADS[name]
    made = train(
        tmp_path, _FAMILIES[name](), lora(task_type=task, target_modules=targets), num_labels=3,
        model_class=getattr(transformers, class_name),
    )  # fmt: skip
    done = fold(tmp_path, made)
    wanted = made.merged()
    assert difference(tmp_path / "out", wanted) <= _CLOSE
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["architectures"] == [type(wanted).__name__]
    assert len(config["id2label"]) == 3
    assert type(wanted).__name__ in done.notes[0]


def test_a_head_that_the_adapter_names_by_its_model_class(tmp_path: Path) -> None:
    made = train(
        tmp_path, ARCHITECTURES["llama"](), lora(target_modules=["q_proj"], modules_to_save=["score"]),
        num_labels=4, model_class=transformers.AutoModelForSequenceClassification,
    )  # fmt: skip
    fold(tmp_path, made)
    assert difference(tmp_path / "out", made.merged()) <= _CLOSE


def test_a_head_beside_a_layer_that_would_be_random(tmp_path: Path) -> None:
    made = train(
        tmp_path, OTHER_ARCHITECTURES["bert-mlm"](), lora(task_type="SEQ_CLS", target_modules=["query"]),
        model_class=transformers.AutoModelForSequenceClassification,
    )  # fmt: skip
    with pytest.raises(
        InvalidInputError, match=r"bert\.pooler\.dense\.bias, bert\.pooler\.dense\.weight, which would"
    ):
        fold(tmp_path, made)


def test_a_head_in_a_sharded_base(tmp_path: Path) -> None:
    made = train(
        tmp_path, ARCHITECTURES["llama"](), lora(task_type="SEQ_CLS", target_modules=["q_proj"]),
        num_labels=3, model_class=transformers.AutoModelForSequenceClassification,
    )  # fmt: skip
    (made.base / "model.safetensors").unlink()
    ARCHITECTURES["llama"]().save_pretrained(made.base, max_shard_size="20KB")
    fold(tmp_path, made)
    assert difference(tmp_path / "out", made.merged()) <= _CLOSE
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    held = {k: f.name for f in (tmp_path / "out").glob("*.safetensors") for k in load_file(f)}
    assert index["weight_map"] == held
    assert "score.weight" in held


_TIED = {
    "head": {"target_modules": ["lm_head"]},
    "embedding": {"target_modules": ["embed_tokens"]},
    "both": {"target_modules": ["embed_tokens", "lm_head"]},
    "head whole": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "embedding whole": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    "both whole": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
}


@pytest.mark.parametrize("name", _TIED)
def test_tied_weights_of_which_one_was_trained(tmp_path: Path, name: str) -> None:
    # As the model computed while it was trained; PEFT's merge writes both factors into the one tensor.
    config = lora(task_type="CAUSAL_LM", **_TIED[name])
    made = train(tmp_path, ARCHITECTURES["llama-tied"](), config, forward=True)
    done = fold(tmp_path, made)
    found = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert torch.allclose(logits(found), made.forward, atol=2e-5)
    assert json.loads((tmp_path / "out/config.json").read_text())["tie_word_embeddings"] is False
    assert done.notes == ("lm_head.weight is no longer tied to model.embed_tokens.weight",)


@pytest.mark.parametrize(
    "config",
    [
        lora(task_type="CAUSAL_LM", target_modules=["q_proj"], trainable_token_indices=[1, 9]),
        lora(
            task_type="CAUSAL_LM",
            target_modules=["q_proj"],
            modules_to_save=["embed_tokens"],
            ensure_weight_tying=True,
        ),
        TrainableTokensConfig(task_type="CAUSAL_LM", token_indices=[3, 7]),
    ],
    ids=["tokens", "whole", "only tokens"],
)
def test_tied_weights_that_were_trained_as_one_stay_tied(tmp_path: Path, config: Any) -> None:
    made = train(tmp_path, ARCHITECTURES["llama-tied"](), config, forward=True)
    done = fold(tmp_path, made)
    assert done.notes == ()
    assert "lm_head.weight" not in load_file(tmp_path / "out/model.safetensors")
    found = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert torch.allclose(logits(found), made.forward, atol=2e-5)


@pytest.mark.parametrize("settings", [{"target_modules": ["decoder"]}, {"modules_to_save": ["cls"]}])
def test_what_is_untied_along_with_a_head_keeps_its_values(tmp_path: Path, settings: Any) -> None:
    # BERT's one setting ties the bias of its head as well.
    config = lora(**{"target_modules": ["query"], **settings})
    made = train(tmp_path, OTHER_ARCHITECTURES["bert-mlm"](), config, forward=True)
    fold(tmp_path, made)
    found, told = transformers.AutoModelForMaskedLM.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not any(told.values())
    assert torch.allclose(logits(found.eval()), made.forward, atol=2e-5)


def test_tied_weights_of_a_model_that_cannot_be_untied(tmp_path: Path) -> None:
    made = train(
        tmp_path, OTHER_ARCHITECTURES["t5"](), lora(target_modules=["q"], modules_to_save=["lm_head"])
    )
    with pytest.raises(
        InvalidInputError, match=r"lm_head\.weight, which the base has tied to shared\.weight"
    ):
        fold(tmp_path, made)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """An adapter of the tiny Llama, and its output."""
    folder = tmp_path_factory.mktemp("plain")
    return train(folder, ARCHITECTURES["llama"](), lora(target_modules=["q_proj", "v_proj"]), forward=True)


@pytest.mark.parametrize(
    "name",
    [
        lambda k: "module." + k,
        lambda k: "_orig_mod." + k,
        lambda k: k.replace("base_model.model.", "base_model.model._orig_mod."),
        lambda k: "_fsdp_wrapped_module." + k.replace(".0.", ".0._checkpoint_wrapped_module."),
        lambda k: k.replace(".weight", ".default.weight"),
        lambda k: k.replace(".weight", ".my-adapter.weight"),
        lambda k: k.removeprefix("base_model.model."),
        lambda k: k.replace("base_model.model.model.", "base_model.model."),
    ],
)
def test_names_of_wrapped_models(tmp_path: Path, plain: Trained, name: Any) -> None:
    made = copy_of(plain, tmp_path)
    rename_tensors(made.lora, name)
    fold(tmp_path, made)
    found = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert torch.allclose(logits(found), plain.forward, atol=2e-5)


def test_names_of_an_earlier_transformers(tmp_path: Path) -> None:
    targets = r".*(language_model.*q_proj|vision_tower.*k_proj)"
    made = train(tmp_path, ARCHITECTURES["gemma3"](), lora(target_modules=targets))
    rename_tensors(
        made.lora,
        lambda k: k.replace("model.model.language_model.layers", "model.language_model.model.layers").replace(
            "model.model.vision_tower", "model.vision_tower"
        ),
    )
    fold(tmp_path, made)
    assert difference(tmp_path / "out", made.merged()) <= _CLOSE


def test_a_base_that_no_model_is_known_of_differs_by_a_prefix(tmp_path: Path) -> None:
    made = train(tmp_path, OTHER_ARCHITECTURES["gpt2-bare"](), lora(target_modules=["c_attn"]))
    rename_tensors(made.lora, lambda k: k.replace("base_model.model.", "base_model.model.transformer."))
    (made.base / "config.json").unlink()
    fold(tmp_path, made)
    wanted = made.merged().state_dict()
    found = load_file(tmp_path / "out/model.safetensors")
    assert max((found[k] - wanted[k]).abs().max().item() for k in found) <= _CLOSE


def test_square_layers_of_a_base_that_no_model_is_known_of(tmp_path: Path) -> None:
    made = train(
        tmp_path, ARCHITECTURES["gpt2"](), lora(target_modules=["c_attn", "attn.c_proj"], fan_in_fan_out=True)
    )
    (made.base / "config.json").unlink()
    config = json.loads((made.lora / "adapter_config.json").read_text())
    (made.lora / "adapter_config.json").write_text(json.dumps({**config, "fan_in_fan_out": False}))
    with pytest.raises(
        InvalidInputError, match=r"attn\.c_proj is square, and neither its shape nor a config\.json"
    ):
        fold(tmp_path, made)


def test_the_tokenizer_and_template_of_an_adapter_come_with_it(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    ours = word_tokenizer(extra=[f"<x{i}>" for i in range(6)], chat_template=template)
    base = ARCHITECTURES["llama"]()
    base.save_pretrained(tmp_path / "base")
    word_tokenizer().save_pretrained(tmp_path / "base")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    model.resize_token_embeddings(len(ours))
    config = lora(
        task_type="CAUSAL_LM", target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"]
    )
    adapted = moved(model, config)
    adapted.save_pretrained(tmp_path / "lora")
    ours.save_pretrained(tmp_path / "lora")
    fold(tmp_path, Trained(tmp_path / "base", tmp_path / "lora", adapted))
    found = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (len(found), found.chat_template) == (len(ours), template)
    assert json.loads((tmp_path / "out/config.json").read_text())["vocab_size"] == len(ours)
    generation = "generation_config.json"
    assert (tmp_path / "out" / generation).read_bytes() == (tmp_path / "base" / generation).read_bytes()
    assert difference(tmp_path / "out", adapted.merge_and_unload()) <= _CLOSE


def test_a_vocabulary_that_was_resized_and_not_saved(tmp_path: Path) -> None:
    base = ARCHITECTURES["llama"]()
    base.save_pretrained(tmp_path / "base")
    base.resize_token_embeddings(66)
    adapted = moved(base, lora(target_modules=["lm_head", "embed_tokens"]))
    adapted.save_pretrained(tmp_path / "lora", save_embedding_layers=False)
    repo, done = stored(tmp_path, Trained(tmp_path / "base", tmp_path / "lora", adapted))
    assert "66 rows, and the base has 64" in done.adapter_notes[0]
    with pytest.raises(InvalidInputError, match="66 rows, and the base has 64: the vocabulary was resized"):
        checkout(repo, "lora", merge_adapter=True)


def test_a_model_in_memory_is_the_folded_one(tmp_path: Path, plain: Trained) -> None:
    repo, _ = stored(tmp_path, plain)
    found = load_model(repo, "lora", merge_adapter=True).eval()
    assert torch.allclose(logits(found), plain.forward, atol=2e-5)


def test_a_sum_with_adapters_adds_what_they_are_folded(tmp_path: Path, plain: Trained) -> None:
    repo, _ = stored(tmp_path, plain)
    with pytest.raises(InvalidInputError, match="lora is an adapter; expressions need whole checkpoints"):
        checkout(repo, "base + 0.5 * (lora - base)")
    found = checkout(repo, "base + 0.5 * (lora - base)", merge_adapter=True)
    turned = checkout(repo, "0.5 * (lora + base)", merge_adapter=True)
    base, folded = checkout(repo, "base"), checkout(repo, "lora", merge_adapter=True, dtype="float64")
    for key, weight in found.items():
        exact = (base[key].double() + 0.5 * (folded[key] - base[key].double())).float()
        for made in (weight, turned[key]):  # rounded once, to the dtype of the weight
            assert made.dtype == base[key].dtype
            assert torch.equal(made, exact)
    with pytest.raises(InvalidInputError, match="is not an adapter"):
        checkout(repo, "base + 0.5 * (base - base)", merge_adapter=True)


def test_the_adapter_of_a_folder_that_holds_a_whole_model_too(tmp_path: Path, plain: Trained) -> None:
    made = copy_of(plain, tmp_path)
    for name in ("config.json", "model.safetensors"):
        (made.lora / name).write_bytes((made.base / name).read_bytes())
    repo, done = stored(tmp_path, made)
    assert done.recorded.kind == "adapter"
    checkout_files(repo, "lora", tmp_path / "back")
    assert all((tmp_path / "back" / f.name).read_bytes() == f.read_bytes() for f in made.lora.iterdir())
    found = load_model(repo, "lora", merge_adapter=True).eval()
    assert torch.allclose(logits(found), plain.forward, atol=2e-5)


def test_pickled_adapters(tmp_path: Path, plain: Trained) -> None:
    made = copy_of(plain, tmp_path)
    file = made.lora / "adapter_model.safetensors"
    torch.save(load_file(file), made.lora / "adapter_model.bin")
    file.unlink()
    repo = init_repository(tmp_path / "repo", sync=False)
    import_base(repo, str(made.base), draft=Draft("base"))
    commit(repo, str(made.lora), draft=Draft("lora"), allow_pickle=True)
    found = load_model(repo, "lora", merge_adapter=True).eval()
    assert torch.allclose(logits(found), plain.forward, atol=2e-5)


def test_factors_of_nothing_but_nan_are_told(tmp_path: Path, plain: Trained) -> None:
    made = copy_of(plain, tmp_path)
    edit_tensors(made.lora, lambda t: {k: v * float("nan") for k, v in t.items()})
    _, done = stored(tmp_path, made)
    assert done.adapter_notes[0].startswith("8 of its tensors hold NaN or Inf")
