"""Adapters of every type compute what PEFT's own loading makes them compute, also after an exchange."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from architectures import ARCHITECTURES, OTHER_ARCHITECTURES
from folder_views import view_of_folder
from safetensors.torch import load_file, save_file

from deltavcs.errors import ErrorKind, InvalidInputError, MissingDependencyError
from deltavcs.evaluation.adapter_frame import peft_config_of
from deltavcs.evaluation.adapter_model import StoredAdapter, load_adapted
from deltavcs.repo import Repository
from deltavcs.resources import Resources

_TASK = {"task_type": "CAUSAL_LM", "target_modules": ["q_proj", "v_proj"]}


def lora(**settings: Any) -> peft.LoraConfig:
    return peft.LoraConfig(**{**_TASK, "r": 2, "lora_alpha": 8, **settings})


KINDS: dict[str, peft.PeftConfig] = {
    "plain": lora(),
    "patterns": lora(use_rslora=True, rank_pattern={"v_proj": 3}, alpha_pattern={r"layers\.1\..*": 32}),
    "dora": lora(use_dora=True),
    "bias": lora(bias="all"),
    "pissa": lora(init_lora_weights="pissa"),
    "olora": lora(init_lora_weights="olora"),
    "embedding": lora(target_modules=["embed_tokens", "lm_head", "q_proj"]),
    "tokens": lora(trainable_token_indices={"embed_tokens": [5, 6]}),
    "saved": lora(modules_to_save=["lm_head", "norm"]),
    "parameters": lora(target_modules=[], target_parameters=["mlp.gate_proj.weight"]),
    "ia3": peft.IA3Config(
        **_TASK | {"target_modules": ["k_proj", "down_proj"]}, feedforward_modules=["down_proj"]
    ),
    "loha": peft.LoHaConfig(**_TASK, r=2),
    "lokr": peft.LoKrConfig(**_TASK, r=2),
    "vera": peft.VeraConfig(**_TASK, r=2),
    "adalora": peft.AdaLoraConfig(**_TASK, total_step=10, tinit=1, tfinal=1),
    "oft": peft.OFTConfig(**_TASK, oft_block_size=4, r=0),
    "vblora": peft.VBLoRAConfig(**_TASK, num_vectors=8, vector_length=8),
    "prompt": peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    "prefix": peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
}


def trained(model: Any, seed: int) -> Any:
    """The PEFT model with a value for everything that training would move."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.arange(8)[None], use_cache=False).logits
    return found


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    ARCHITECTURES["llama"]().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def plain(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    trained(peft.get_peft_model(from_disk(base), lora()), 1).save_pretrained(folder)
    return folder


def from_disk(base: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(base)


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_is_what_peft_loads(kind: str, base: Path, repo: Repository, tmp_path: Path) -> None:
    for seed in (1, 2):
        adapted = peft.get_peft_model(from_disk(base), type(KINDS[kind])(**KINDS[kind].to_dict()))
        trained(adapted, seed).save_pretrained(tmp_path / str(seed))
    views = [view_of_folder(tmp_path / str(seed)) for seed in (1, 2)]
    model = load_adapted(repo.objects, view_of_folder(base), views[0], causal=True, resources=Resources(1))
    wanted = [logits(peft.PeftModel.from_pretrained(from_disk(base), tmp_path / str(s))) for s in (1, 2)]
    assert torch.equal(logits(model), wanted[0])
    assert not torch.equal(*wanted)
    held = StoredAdapter(repo.objects, model, Resources(1))
    for i in (1, 0):
        assert held.load(views[i].primary) == len(views[i].primary)
        assert torch.equal(logits(model), wanted[i])


def test_a_classifier_brings_its_head(base: Path, repo: Repository, tmp_path: Path) -> None:
    auto = transformers.AutoModelForSequenceClassification
    model = auto.from_pretrained(base, num_labels=3)
    trained(peft.get_peft_model(model, lora(task_type="SEQ_CLS")), 1).save_pretrained(tmp_path)
    below, adapter = view_of_folder(base), view_of_folder(tmp_path)
    found = load_adapted(repo.objects, below, adapter, resources=Resources(1))
    wanted = peft.PeftModel.from_pretrained(auto.from_pretrained(base, num_labels=3), tmp_path)
    assert torch.equal(logits(found), logits(wanted))
    with pytest.raises(InvalidInputError, match="its adapter is for SEQ_CLS"):
        load_adapted(repo.objects, below, adapter, causal=True, resources=Resources(1))


def test_an_adapter_of_a_bare_gpt2(repo: Repository, tmp_path: Path) -> None:
    OTHER_ARCHITECTURES["gpt2-bare"]().save_pretrained(tmp_path / "base")
    config = lora(target_modules=["c_attn"], fan_in_fan_out=True)
    trained(peft.get_peft_model(from_disk(tmp_path / "base"), config), 1).save_pretrained(tmp_path / "lora")
    views = [view_of_folder(tmp_path / name) for name in ("base", "lora")]
    found = load_adapted(repo.objects, *views, resources=Resources(1))
    assert torch.equal(
        logits(found), logits(peft.PeftModel.from_pretrained(from_disk(tmp_path / "base"), tmp_path / "lora"))
    )


@pytest.mark.parametrize(
    "settings", [{"modules_to_save": ["embed_tokens", "lm_head"]}, {"target_modules": ["q_proj"]}]
)
def test_new_tokens_are_the_adapters_own(
    settings: dict[str, Any], base: Path, repo: Repository, tmp_path: Path
) -> None:
    model = from_disk(base)
    model.resize_token_embeddings(66)
    trained(peft.get_peft_model(model, lora(**settings)), 1).save_pretrained(tmp_path)
    found = load_adapted(repo.objects, view_of_folder(base), view_of_folder(tmp_path), resources=Resources(1))
    other = from_disk(base)
    other.resize_token_embeddings(66)
    assert torch.equal(logits(found), logits(peft.PeftModel.from_pretrained(other, tmp_path)))


Change = Callable[[dict[str, Any], dict[str, torch.Tensor]], object]
_FACTOR = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c, t: t.pop(_FACTOR), rf"the adapter lacks {_FACTOR}"),
        (
            lambda c, t: t.update({_FACTOR.replace("q_proj", "qq"): t.pop(_FACTOR)}),
            r"lacks .*, and has .*\.qq\.",
        ),
        (lambda c, t: t.update({_FACTOR: torch.zeros(0)}), "size mismatch for .*q_proj.lora_A"),
        (lambda c, t: t.update(odd=torch.zeros(1)), "the model with the adapter has no odd"),
        (lambda c, t: c.update(target_modules=["nowhere"]), "PEFT cannot attach the adapter"),
        (lambda c, t: c.update(r=33), "says r = 33, and no tensor has so many rows or columns"),
        (lambda c, t: c.update(rank_pattern={"q_proj": 1 << 40}), r"says rank_pattern = \d+, and no tensor"),
        (lambda c, t: c.update(peft_type="ODD"), "PEFT refuses adapter_config.json"),
        (lambda c, t: c.update(peft_type="XLORA"), "X-LoRA adapter is made of others"),
        (
            lambda c, t: c.update(init_lora_weights="pissa_niter_4"),
            "pissa_niter_4, .* begins with random numbers",
        ),
        (lambda c, t: c.update(init_lora_weights="lora_ga"), "lora_ga, .* by gradients that are not stored"),
        (lambda c, t: c.update(init_lora_weights="corda"), "corda, .* by statistics of data"),
    ],
)
def test_what_does_not_fit_is_named_and_never_left_at_random(
    change: Change, reason: str, plain: Path, base: Path, repo: Repository, tmp_path: Path
) -> None:
    config = json.loads((plain / "adapter_config.json").read_bytes())
    tensors = load_file(plain / "adapter_model.safetensors")
    change(config, tensors)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    with pytest.raises(InvalidInputError, match=reason) as caught:
        load_adapted(repo.objects, view_of_folder(base), view_of_folder(tmp_path), resources=Resources(1))
    assert caught.value.kind in (ErrorKind.BAD_CHECKPOINT, ErrorKind.INCOMPATIBLE)
    assert "\n" not in str(caught.value)


Respell = Callable[[str], str]


@pytest.mark.parametrize(
    "respell",
    [
        lambda k: f"_orig_mod.{k}",
        lambda k: f"module.{k}",
        lambda k: k.replace(".weight", ".default.weight"),
        lambda k: k.removeprefix("base_model.model."),
        lambda k: k.removeprefix("base_model.model.model."),
        lambda k: f"_fsdp_wrapped_module.{k}".replace("layers.0.", "layers.0._fsdp_wrapped_module."),
    ],
    ids=["compile", "ddp", "name of the adapter", "no peft", "no model", "fsdp"],
)
def test_names_of_wrapped_models(
    respell: Respell, plain: Path, base: Path, repo: Repository, tmp_path: Path
) -> None:
    found = load_adapted(
        repo.objects, view_of_folder(base), respelt(plain, tmp_path, respell), resources=Resources(1)
    )
    assert torch.equal(logits(found), logits(peft.PeftModel.from_pretrained(from_disk(base), plain)))


def respelt(adapter: Path, folder: Path, respell: Respell) -> Any:
    """A copy of an adapter whose tensors are called otherwise."""
    shutil.copy(adapter / "adapter_config.json", folder)
    tensors = {respell(k): v for k, v in load_file(adapter / "adapter_model.safetensors").items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    return view_of_folder(folder)


@pytest.mark.parametrize(
    ("settings", "old", "new"),
    [
        ({"use_dora": True}, "_vector", "_vector.default.weight"),
        ({"modules_to_save": ["lm_head"]}, "lm_head.", "lm_head.modules_to_save.default."),
    ],
)
def test_other_parts_of_wrapped_models(
    settings: dict[str, Any], old: str, new: str, base: Path, repo: Repository, tmp_path: Path
) -> None:
    trained(peft.get_peft_model(from_disk(base), lora(**settings)), 1).save_pretrained(tmp_path / "lora")
    (tmp_path / "wrapped").mkdir()
    view = respelt(tmp_path / "lora", tmp_path / "wrapped", lambda k: f"module.{k.replace(old, new)}")
    found = load_adapted(repo.objects, view_of_folder(base), view, resources=Resources(1))
    assert torch.equal(
        logits(found), logits(peft.PeftModel.from_pretrained(from_disk(base), tmp_path / "lora"))
    )


def test_names_of_transformers_4(repo: Repository, tmp_path: Path) -> None:
    model = ARCHITECTURES["llava"]()
    model.save_pretrained(tmp_path / "base")
    config = peft.LoraConfig(r=2, target_modules=r".*(q_proj|linear_1)")
    adapted = trained(peft.get_peft_model(model, config), 1).eval()
    adapted.save_pretrained(tmp_path / "lora")
    (tmp_path / "old").mkdir()

    def old(key: str) -> str:
        key = key.replace("model.model.language_model.", "model.language_model.model.")
        key = key.replace("model.model.vision_tower.", "model.vision_tower.vision_model.")
        return key.replace("model.model.multi_modal", "model.multi_modal")

    view = respelt(tmp_path / "lora", tmp_path / "old", old)
    found = load_adapted(repo.objects, view_of_folder(tmp_path / "base"), view, resources=Resources(1))
    ours, theirs = (peft.get_peft_model_state_dict(m) for m in (found, adapted))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)


def test_of_two_spellings_none_is_chosen(plain: Path, base: Path, repo: Repository, tmp_path: Path) -> None:
    tensors = load_file(plain / "adapter_model.safetensors")
    tensors |= {f"{wrapper}.{_FACTOR}": tensors[_FACTOR] for wrapper in ("module", "_orig_mod")}
    del tensors[_FACTOR]
    shutil.copy(plain / "adapter_config.json", tmp_path)
    save_file({k: v.clone() for k, v in tensors.items()}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(InvalidInputError, match=r"the adapter lacks .*, and has _orig_mod\..*, module\."):
        load_adapted(repo.objects, view_of_folder(base), view_of_folder(tmp_path), resources=Resources(1))


@pytest.mark.parametrize("task", ["FEATURE_EXTRACTION", None])
def test_the_bare_model_below_a_causal_one(
    task: str | None, base: Path, repo: Repository, tmp_path: Path
) -> None:
    model = transformers.AutoModel.from_pretrained(base)
    trained(peft.get_peft_model(model, lora(task_type=task)), 1).save_pretrained(tmp_path)
    found = load_adapted(repo.objects, view_of_folder(base), view_of_folder(tmp_path), resources=Resources(1))
    wanted = peft.PeftModel.from_pretrained(transformers.AutoModel.from_pretrained(base), tmp_path)
    ids = torch.arange(8)[None]
    with torch.no_grad():
        assert torch.equal(found(ids).last_hidden_state, wanted(ids).last_hidden_state)


_VIT = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 16, "patch_size": 8,
}  # fmt: skip
_RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}


@pytest.mark.parametrize(
    ("name", "settings", "targets"),
    [("ViT", _VIT, ["q_proj", "projection"]), ("ResNet", _RESNET, ["convolution"])],
)
def test_a_model_that_takes_no_tokens_gets_its_head(
    name: str, settings: dict[str, Any], targets: list[str], repo: Repository, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**settings)
    getattr(transformers, f"{name}Model")(config).save_pretrained(tmp_path / "base")
    model_class = getattr(transformers, f"{name}ForImageClassification")
    model = model_class.from_pretrained(tmp_path / "base", num_labels=3)
    head = "classifier" if name == "ViT" else "classifier.1"
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=targets, modules_to_save=[head]))
    trained(adapted, 1).eval().save_pretrained(tmp_path / "lora")
    views = [view_of_folder(tmp_path / n) for n in ("base", "lora")]
    found = load_adapted(repo.objects, *views, resources=Resources(1))
    pixels = torch.ones(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(found(pixel_values=pixels).logits, adapted(pixel_values=pixels).logits)


def test_nothing_that_a_configuration_names_is_imported(
    plain: Path, repo: Repository, tmp_path: Path
) -> None:
    raw = json.loads((plain / "adapter_config.json").read_bytes())
    raw |= {
        "megatron_config": {"a": 1},
        "megatron_core": "antigravity",
        "base_model_name_or_path": "who/knows",
    }
    (tmp_path / "adapter_config.json").write_text(json.dumps(raw))
    shutil.copy(plain / "adapter_model.safetensors", tmp_path)
    config = peft_config_of(repo.objects, view_of_folder(tmp_path))
    assert config.megatron_config is None
    assert config.base_model_name_or_path is None
    assert "antigravity" not in sys.modules


def test_without_peft(monkeypatch: pytest.MonkeyPatch, plain: Path, base: Path, repo: Repository) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingDependencyError) as caught:
        load_adapted(repo.objects, view_of_folder(base), view_of_folder(plain), resources=Resources(1))
    assert (caught.value.kind, caught.value.facts) == (ErrorKind.MISSING_PACKAGE, {"package": "peft"})
