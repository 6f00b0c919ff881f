"""Kinds of adapters, as PEFT writes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import checkpoint_kinds as whole
import torch
import transformers as t
from kind import VOCABULARY, Kind, nudged, trained
from safetensors.torch import load_file, save_file
from tiny_llama import build_tokenizer

Configure = Callable[[], Any]
Load = Callable[[Path], Any]


def lora(**more: Any) -> Any:
    import peft

    settings = {"task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
    return peft.LoraConfig(**(settings | more))


def _made(
    configure: Configure, root: Path, *, build: Any = whole.llama, load: Load | None = None
) -> Callable[[], Any]:
    """Base, two adapters, and the base's next version; gives back PEFT's own merge of the first."""
    import peft

    load = load or t.AutoModelForCausalLM.from_pretrained
    whole.save(build(), root / "base")
    whole.save(nudged(build(), 3), root / "new")
    merged = None
    for name, seed in (("tuned", 1), ("other", 2)):
        torch.manual_seed(seed)
        model = trained(peft.get_peft_model(load(root / "base"), configure()), seed)
        model.save_pretrained(root / name)
        merged = merged or (lambda model=model: model.eval().merge_and_unload())
    assert merged is not None
    return merged


def _changed(change: Callable[[dict[str, Any]], dict[str, Any]], root: Path) -> Callable[[], Any]:
    """Plain LoRA whose files another tool wrote."""
    merged = _made(lora, root)
    for name in ("tuned", "other"):
        path = root / name / "adapter_model.safetensors"
        save_file(change(load_file(path)), path, {"format": "pt"})
    return merged


def _unmerged(configure: Configure, root: Path) -> None:
    """A kind that PEFT does not merge, or that is nothing when merged."""
    _made(configure, root)


def _initialised(name: str, root: Path) -> Callable[[], Any]:
    """What PEFT itself makes of factors that were trained on a residual and saved without conversion."""
    import peft

    _made(partial(lora, init_lora_weights=name), root)
    base = t.AutoModelForCausalLM.from_pretrained(root / "base")
    return peft.PeftModel.from_pretrained(base, root / "tuned").merge_and_unload


def _classifier(root: Path) -> Callable[[], Any]:
    torch.manual_seed(5)
    load = partial(t.AutoModelForSequenceClassification.from_pretrained, num_labels=3)
    configure = partial(lora, task_type="SEQ_CLS")
    return _made(configure, root, load=load)


def _bert_classifier(root: Path) -> Callable[[], Any]:
    load = partial(t.AutoModelForSequenceClassification.from_pretrained, num_labels=3)
    configure = partial(lora, task_type="SEQ_CLS", target_modules=["query", "value"])
    return _made(configure, root, build=partial(whole.bert, t.BertModel), load=load)


def _tied_head(root: Path) -> Callable[[], Any]:
    """What the model computed as it was trained: the head adapted, the embedding not.

    PEFT's merge of the tied model adds the change to both, so it is done on one that is not tied.
    """
    import peft

    tied = partial(whole.llama, tie_word_embeddings=True)
    _made(partial(lora, target_modules=["lm_head", "q_proj"]), root, build=tied)
    model = t.AutoModelForCausalLM.from_pretrained(root / "base", tie_word_embeddings=False)
    model.lm_head.weight = torch.nn.Parameter(model.model.embed_tokens.weight.detach().clone())
    return peft.PeftModel.from_pretrained(model, root / "tuned").merge_and_unload


def _new_tokens(root: Path) -> Callable[[], Any]:
    def load(folder: Path) -> Any:
        model = t.AutoModelForCausalLM.from_pretrained(folder)
        model.resize_token_embeddings(VOCABULARY + 3, mean_resizing=False)
        return model

    merged = _made(partial(lora, modules_to_save=["embed_tokens", "lm_head"]), root, load=load)
    for name in ("tuned", "other"):
        tokenizer = build_tokenizer(chat=True)
        tokenizer.add_tokens(["<a>", "<b>", "<c>"])
        tokenizer.save_pretrained(root / name)
    return merged


def _beside_a_model(root: Path) -> Callable[[], Any]:
    merged = _made(lora, root)
    for name in ("tuned", "other"):
        whole.save(whole.llama(), root / name)
    return merged


def _on_nf4(root: Path) -> None:
    import peft

    how = t.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    )
    for name, seed in (("base", 0), ("new", 3)):
        model = nudged(whole.llama(hidden_size=128, intermediate_size=128), seed)
        whole.save(model, root / "16-bit" / name)
        model = t.AutoModelForCausalLM.from_pretrained(root / "16-bit" / name, quantization_config=how)
        whole.save(model, root / name)
    for name, seed in (("tuned", 1), ("other", 2)):
        model = t.AutoModelForCausalLM.from_pretrained(root / "base")
        trained(peft.get_peft_model(model, lora()), seed).save_pretrained(root / name)


def _kohya(root: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    stem = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    for name in ("base", "new"):
        whole.save(whole.llama(), root / name)
    for name in ("tuned", "other"):
        factors = {
            f"{stem}.lora_down.weight": torch.randn(4, 32, generator=generator),
            f"{stem}.lora_up.weight": torch.randn(32, 4, generator=generator),
            f"{stem}.alpha": torch.tensor(4.0),
        }
        (root / name).mkdir()
        save_file(factors, root / name / "model.safetensors", {"ss_network_dim": "4"})


def _others() -> list[Kind]:
    """Types of PEFT that are no LoRA."""
    import peft

    feed = {"feedforward_modules": ["down_proj"], "target_modules": ["k_proj", "v_proj", "down_proj"]}
    one = {"target_modules": ["q_proj"]}
    merges = {
        "IA3": partial(peft.IA3Config, task_type="CAUSAL_LM", **feed),
        "LoHa": partial(peft.LoHaConfig, task_type="CAUSAL_LM", r=4, alpha=8, **one),
        "LoKr": partial(peft.LoKrConfig, task_type="CAUSAL_LM", r=4, alpha=8, **one),
        "VeRA": partial(peft.VeraConfig, task_type="CAUSAL_LM", r=4, **one),
        "AdaLoRA": partial(
            peft.AdaLoraConfig, task_type="CAUSAL_LM", total_step=10, tinit=1, tfinal=1, **one
        ),
        "OFT": partial(peft.OFTConfig, task_type="CAUSAL_LM", oft_block_size=4, **one),
        "FourierFT": partial(peft.FourierFTConfig, task_type="CAUSAL_LM", n_frequency=8, **one),
        "LN tuning": partial(peft.LNTuningConfig, task_type="CAUSAL_LM", target_modules=["norm"]),
    }
    prompts = {
        "prompt tuning": partial(peft.PromptTuningConfig, task_type="CAUSAL_LM", num_virtual_tokens=4),
        "prefix tuning": partial(peft.PrefixTuningConfig, task_type="CAUSAL_LM", num_virtual_tokens=4),
    }
    return [
        *(Kind(name, partial(_made, configure), adapter=True) for name, configure in merges.items()),
        *(Kind(name, partial(_unmerged, configure), adapter=True) for name, configure in prompts.items()),
    ]


def _families() -> dict[str, Any]:
    """LoRA over architectures whose modules lie, or are called, otherwise than Llama's."""
    moe = whole.causal(t.Qwen2MoeConfig(**whole.MOE, num_experts=4, shared_expert_intermediate_size=16))
    phi3 = whole.causal(t.Phi3Config(**whole.GROUPED, **whole.IDS))
    bloom = whole.causal(t.BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4))
    picture = t.AutoModelForImageTextToText.from_pretrained
    tagged = partial(t.AutoModelForTokenClassification.from_pretrained, num_labels=5)
    stacks = ["mlp.experts.down_proj", "mlp.experts.gate_up_proj"]
    experts = {"target_modules": [], "target_parameters": stacks}
    text = r".*language_model.*\.(q_proj|v_proj)"
    return {
        "Qwen 2 MoE, both fused parameters": partial(_made, partial(lora, **experts), build=moe),
        "Phi 3 (fused qkv)": partial(
            _made, partial(lora, target_modules=["qkv_proj", "gate_up_proj"]), build=phi3
        ),
        "Bloom (fused qkv)": partial(
            _made, partial(lora, target_modules=["query_key_value", "dense"]), build=bloom
        ),
        "T5 (SEQ_2_SEQ_LM)": partial(
            _made, partial(lora, task_type="SEQ_2_SEQ_LM", target_modules=["q", "v", "wo"]),
            build=whole.t5, load=t.AutoModelForSeq2SeqLM.from_pretrained,
        ),
        "Gemma 3 with pictures": partial(_made, lora, build=whole.gemma3, load=picture),
        "LLaVA": partial(
            _made, partial(lora, target_modules=text), build=whole.llava, load=picture
        ),
        "new head (TOKEN_CLS) over a bare BERT": partial(
            _made, partial(lora, task_type="TOKEN_CLS", target_modules=["query", "value"]),
            build=partial(whole.bert, t.BertModel), load=tagged,
        ),
        "DoRA, rank-stabilised, all-linear": partial(
            _made, partial(lora, use_dora=True, use_rslora=True, target_modules="all-linear")
        ),
        "LoRA in bfloat16 on bfloat16": partial(
            _made, lora, build=lambda: whole.llama().to(torch.bfloat16)
        ),
    }  # fmt: skip


def kinds() -> list[Kind]:
    """All of them, in the order of the page."""
    pattern = {"rank_pattern": {"layers.0.self_attn.q_proj": 2}, "alpha_pattern": {r"layers\.1\..*": 32}}
    carets = {r"^model.layers.1.self_attn.v_proj": 8}
    variants = {
        "LoRA": lora,
        "rsLoRA": partial(lora, use_rslora=True),
        "DoRA": partial(lora, use_dora=True),
        "rank and alpha patterns": partial(lora, **pattern),
        "patterns that begin with `^`": partial(lora, rank_pattern=carets, alpha_pattern=carets),
        "all-linear": partial(lora, target_modules="all-linear"),
        "LoRA of the embedding": partial(lora, target_modules=["embed_tokens", "q_proj"]),
        "LoRA of the head": partial(lora, target_modules=["lm_head", "q_proj"]),
        "trainable tokens": partial(lora, trainable_token_indices={"embed_tokens": [5, 6, 7]}),
        "norms saved whole": partial(lora, modules_to_save=["norm", "input_layernorm"]),
        "target_parameters": partial(lora, target_modules=[], target_parameters=["mlp.gate_proj.weight"]),
    }
    biased = partial(whole.llama, attention_bias=True)
    tied = partial(whole.llama, tie_word_embeddings=True)
    mixtral = whole.causal(
        t.MixtralConfig(
            vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, num_local_experts=4, max_position_embeddings=128,
        )
    )  # fmt: skip
    experts = partial(lora, target_modules=["q_proj"], target_parameters=["mlp.experts.gate_up_proj"])
    gpt2_mixed = partial(lora, target_modules=["attn.c_proj", "mlp.c_fc"])
    more = {
        "LoRA with `lora_bias`": partial(_made, partial(lora, lora_bias=True), build=biased),
        "LoRA with `bias=all`": partial(_made, partial(lora, bias="all"), build=biased),
        "tied head, saved whole": partial(_made, partial(lora, modules_to_save=["lm_head"]), build=tied),
        "tied head, LoRA": _tied_head,
        "GPT-2 (square Conv1D)": partial(_made, gpt2_mixed, build=whole.gpt2),
        "GPT-2, bare base": partial(
            _made, partial(lora, target_modules=["c_attn"]), build=partial(whole.gpt2, t.GPT2Model),
            load=t.GPT2LMHeadModel.from_pretrained,
        ),
        "Mixtral, fused experts": partial(_made, experts, build=mixtral),
        "new head (SEQ_CLS) over a causal LM": _classifier,
        "new head (SEQ_CLS) over a bare BERT": _bert_classifier,
        "new tokens, tokenizer and template": _new_tokens,
        "beside a full model": _beside_a_model,
        "names with `.default`": partial(
            _changed, lambda s: {k.replace(".weight", ".default.weight"): v for k, v in s.items()}
        ),
        "names with `_orig_mod.`": partial(_changed, lambda s: {f"_orig_mod.{k}": v for k, v in s.items()}),
        "empty factors (ZeRO-3)": partial(_changed, lambda s: {k: v.new_zeros(0) for k, v in s.items()}),
        "PiSSA, not converted": partial(_initialised, "pissa"),
        "OLoRA, not converted": partial(_initialised, "olora"),
        "QLoRA on an nf4 base": _on_nf4,
        "kohya": _kohya,
    }  # fmt: skip
    more |= _families()
    no_text = {"kohya", "T5 (SEQ_2_SEQ_LM)", "Gemma 3 with pictures", "LLaVA"}
    no_text |= {name for name in more if "head (" in name}
    return [
        *(Kind(name, partial(_made, configure), adapter=True) for name, configure in variants.items()),
        *(Kind(name, make, adapter=True, asks=name not in no_text) for name, make in more.items()),
        *_others(),
    ]


def configuration(folder: Path) -> dict[str, Any]:
    """The adapter's configuration."""
    found: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text())
    return found
