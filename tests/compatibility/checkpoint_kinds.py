"""Kinds of whole checkpoints."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers as t
from kind import VOCABULARY, Kind, nudged
from safetensors.torch import load_file, save_file
from tiny_llama import build_tokenizer

SMALL = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
DENSE = {**SMALL, "intermediate_size": 48, "max_position_embeddings": 128, "initializer_range": 0.2}
GROUPED = {**DENSE, "num_key_value_heads": 2}
IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}

Build = Callable[[], Any]


def from_config(auto: Any, config: Any) -> Any:
    """A model of one seed."""
    torch.manual_seed(0)
    return auto.from_config(config) if hasattr(auto, "from_config") else auto(config)


def llama(**more: Any) -> Any:
    return from_config(t.AutoModelForCausalLM, t.LlamaConfig(**(GROUPED | IDS | more)))


def gpt2(cls: Any = t.GPT2LMHeadModel) -> Any:
    config = t.GPT2Config(vocab_size=VOCABULARY, n_positions=128, n_embd=32, n_layer=2, n_head=4, **IDS)
    return from_config(cls, config)


def bert(cls: Any, **more: Any) -> Any:
    return from_config(cls, t.BertConfig(**DENSE, **more))


def causal(config: Any) -> Build:
    return partial(from_config, t.AutoModelForCausalLM, config)


def save(model: Any, folder: Path, **options: Any) -> None:
    model.save_pretrained(folder, **options)
    build_tokenizer(chat=False).save_pretrained(folder)


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    """Write a folder's tensors anew."""
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, {"format": "pt"})


def plain(build: Build, root: Path, **options: Any) -> None:
    """A base, two fine-tunes, and the base's next version."""
    save(build(), root / "base", **options)
    for name, seed in (("tuned", 1), ("other", 2), ("new", 3)):
        save(nudged(build(), seed), root / name, **options)


def _prefixed(prefix: str, root: Path) -> None:
    plain(llama, root)
    for name in ("tuned", "other"):
        edit(root / name, lambda state: {prefix + k: v for k, v in state.items()})


def _head_over_bare_gpt2(root: Path) -> None:
    save(gpt2(t.GPT2Model), root / "base")
    save(nudged(gpt2(t.GPT2Model), 3), root / "new")
    for name, seed in (("tuned", 1), ("other", 2)):
        save(nudged(t.GPT2LMHeadModel.from_pretrained(root / "base"), seed), root / name)


def _head_over_bare_bert(root: Path) -> None:
    save(bert(t.BertModel), root / "base")
    save(nudged(bert(t.BertModel), 3), root / "new")
    for name, seed in (("tuned", 1), ("other", 2)):
        torch.manual_seed(9)
        model = t.BertForSequenceClassification.from_pretrained(root / "base", num_labels=3)
        save(nudged(model, seed), root / name)


def _untied_from_tied(root: Path) -> None:
    tied = partial(llama, tie_word_embeddings=True)
    save(tied(), root / "base")
    save(nudged(tied(), 3), root / "new")
    for name, seed in (("tuned", 1), ("other", 2)):
        model = llama(tie_word_embeddings=False)
        model.load_state_dict(tied().state_dict())
        save(nudged(model, seed), root / name)


def _grown(build: Build, root: Path) -> None:
    plain(build, root)
    for name, seed in (("tuned", 1), ("other", 2)):
        model = nudged(build(), seed)
        torch.manual_seed(seed)
        model.resize_token_embeddings(VOCABULARY + 3, mean_resizing=False)
        model.save_pretrained(root / name)
        tokenizer = build_tokenizer(chat=False)
        tokenizer.add_tokens(["<a>", "<b>", "<c>"])
        tokenizer.save_pretrained(root / name)


def _overlaid(root: Path) -> None:
    plain(llama, root, max_shard_size="60KB")
    for name in ("base", "tuned", "other", "new"):
        index = root / name / "model.safetensors.index.json"
        table = json.loads(index.read_text())
        key, shard = next(iter(table["weight_map"].items()))
        over = load_file(root / name / shard)[key] + 1
        save_file({key: over}, root / name / "model-overlay.safetensors", {"format": "pt"})
        table["weight_map"][key] = "model-overlay.safetensors"
        index.write_text(json.dumps(table))


def _incomplete(root: Path) -> None:
    plain(llama, root, max_shard_size="60KB")
    for folder in root.iterdir():
        (folder / "model.safetensors.index.json").unlink()
        sorted(folder.glob("model-*.safetensors"))[-1].unlink()


def _hole(root: Path) -> None:
    plain(llama, root, max_shard_size="60KB")
    for folder in root.iterdir():
        shard = sorted(folder.glob("model-*.safetensors"))[-1]
        state = load_file(shard)
        state.popitem()
        save_file(state, shard, {"format": "pt"})


def _null_metadata(root: Path) -> None:
    plain(llama, root)
    for path in root.glob("*/model.safetensors"):
        data = path.read_bytes()
        (size,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + size]) | {"__metadata__": None}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])


def _missing_weight(root: Path) -> None:
    plain(llama, root)
    for folder in root.iterdir():
        edit(folder, lambda state: {k: v for k, v in state.items() if k != "lm_head.weight"})


def _old_buffers(root: Path) -> None:
    plain(llama, root)
    for name in ("tuned", "new"):
        more = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(4) for i in range(2)}
        edit(root / name, lambda state, more=more: state | more)


def _fp8(root: Path) -> None:
    plain(partial(llama, dtype=torch.bfloat16), root)
    for folder in root.iterdir():
        edit(folder, _block_scaled)
        _configure(
            folder,
            {"quant_method": "fp8", "weight_block_size": [32, 32], "activation_scheme": "dynamic"},
        )


def _block_scaled(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    out = {}
    for name, value in state.items():
        if "proj" not in name:
            out[name] = value.to(torch.bfloat16)
            continue
        rows, columns = (-(-n // 32) for n in value.shape)
        scale = torch.zeros(rows, columns)
        packed = torch.zeros_like(value, dtype=torch.float8_e4m3fn)
        for i in range(rows):
            for j in range(columns):
                at = (slice(32 * i, 32 * i + 32), slice(32 * j, 32 * j + 32))
                scale[i, j] = value[at].abs().max().float() / 448
                packed[at] = (value[at].float() / scale[i, j]).to(torch.float8_e4m3fn)
        out |= {name: packed, f"{name}_scale_inv": scale}
    return out


def _dequantised(folder: Path) -> dict[str, torch.Tensor]:
    """W = q·s by blocks of 32 × 32, in float64."""
    found = load_file(folder / "model.safetensors")
    out = {}
    for name, value in found.items():
        scale = found.get(f"{name}_scale_inv")
        if scale is not None:
            rows, columns = value.shape
            whole = scale.double().repeat_interleave(32, 0).repeat_interleave(32, 1)
            value = value.double() * whole[:rows, :columns]
        if not name.endswith("_scale_inv"):
            out[name] = value
    return out


def _configure(folder: Path, quantization: dict[str, Any]) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": quantization}))


def _gptq(root: Path) -> None:
    plain(llama, root)
    for folder in root.iterdir():
        edit(folder, _packed)
        _configure(folder, {"quant_method": "gptq", "bits": 4, "group_size": 16})


def _packed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    out = {}
    for name, value in state.items():
        if "proj" not in name:
            out[name] = value
            continue
        stem, w = name.removesuffix(".weight"), value.T.contiguous()
        scale = w.abs().amax(0, keepdim=True) / 7
        codes = (w / scale).round().clamp(-8, 7).to(torch.int32) + 8
        out[f"{stem}.qweight"] = sum(codes[i::8] << (4 * i) for i in range(8)).to(torch.int32)
        out[f"{stem}.scales"] = scale.half()
        out[f"{stem}.qzeros"] = torch.full((1, w.shape[1] // 8), 0x77777777, dtype=torch.int32)
        out[f"{stem}.g_idx"] = torch.zeros(w.shape[0], dtype=torch.int32)
    return out


def _nf4(root: Path) -> None:
    plain(llama, root)
    how = t.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    )
    for folder in sorted(root.iterdir()):
        model = t.AutoModelForCausalLM.from_pretrained(folder, quantization_config=how)
        (folder / "model.safetensors").unlink()
        model.save_pretrained(folder)


def _own_code(root: Path) -> None:
    plain(llama, root)
    for folder in root.iterdir():
        path = folder / "config.json"
        own = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnModel"}
        config = json.loads(path.read_text()) | {"model_type": "own", "auto_map": own}
        path.write_text(json.dumps(config | {"architectures": ["OwnModel"]}))
        (folder / "modeling_own.py").write_text("raise SystemExit('this code must not run')\n")


def _pickled(root: Path) -> None:
    plain(llama, root)
    for folder in root.iterdir():
        path = folder / "model.safetensors"
        torch.save(load_file(path), folder / "pytorch_model.bin")
        path.unlink()


def _pipeline(root: Path) -> None:
    for name, seed in (("base", 0), ("tuned", 1), ("other", 2), ("new", 3)):
        nudged(_unet(), seed).save_pretrained(root / name / "unet")
        nudged(bert(t.BertModel), seed).save_pretrained(root / name / "text_encoder")
        parts = {"unet": ["diffusers", "UNet2DConditionModel"], "text_encoder": ["transformers", "BertModel"]}
        index = {"_class_name": "StableDiffusionPipeline", **parts}
        (root / name / "model_index.json").write_text(json.dumps(index))


def _unet() -> Any:
    import diffusers

    torch.manual_seed(0)
    return diffusers.UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 8), layers_per_block=1, cross_attention_dim=32,
        attention_head_dim=4, norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip


def _unets(root: Path) -> None:
    for name, seed in (("base", 0), ("tuned", 1), ("other", 2), ("new", 3)):
        nudged(_unet(), seed).save_pretrained(root / name)


def _gguf(root: Path) -> None:
    for name in ("base", "tuned", "other", "new"):
        (root / name).mkdir()
        (root / name / "model.gguf").write_bytes(b"GGUF" + name.encode() * 99)


MOE = {**GROUPED, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
_PICTURE = {**_VISION, "image_size": 8, "patch_size": 4}


def llava() -> Any:
    text, vision = t.LlamaConfig(**GROUPED), t.CLIPVisionConfig(**_PICTURE)
    return from_config(
        t.LlavaForConditionalGeneration,
        t.LlavaConfig(text_config=text, vision_config=vision, image_token_index=VOCABULARY - 1),
    )


def gemma3() -> Any:
    text = t.Gemma3TextConfig(**GROUPED, head_dim=8)
    config = t.Gemma3Config(text_config=text, vision_config=t.SiglipVisionConfig(**_PICTURE))
    return from_config(t.Gemma3ForConditionalGeneration, config)


def t5() -> Any:
    config = t.T5Config(vocab_size=VOCABULARY, d_model=32, d_ff=48, d_kv=8, num_layers=1, num_heads=4)
    return from_config(t.T5ForConditionalGeneration, config)


def bart() -> Any:
    size = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 48}
    heads = {"decoder_ffn_dim": 48, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
    config = t.BartConfig(vocab_size=VOCABULARY, **size, **heads, max_position_embeddings=128)
    return from_config(t.BartForConditionalGeneration, config)


def deepseek() -> Any:
    ranks = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4}
    config = t.DeepseekV3Config(
        **MOE, **ranks, v_head_dim=8, n_routed_experts=4, n_group=2, topk_group=1, first_k_dense_replace=1
    )
    return from_config(t.AutoModelForCausalLM, config)


def kinds() -> list[Kind]:
    """All of them, in the order of the page."""
    mamba = t.MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=4)
    opt = t.OPTConfig(**SMALL, ffn_dim=48, max_position_embeddings=128, word_embed_proj_dim=32)
    jamba = t.JambaConfig(
        **GROUPED, num_experts=2, num_experts_per_tok=1, mamba_d_state=4, attn_layer_period=2,
        attn_layer_offset=1, expert_layer_period=2, expert_layer_offset=1, use_mamba_kernels=False,
    )  # fmt: skip
    shared = {"shared_expert_intermediate_size": 16}
    whole = {
        "Llama": llama,
        "Llama, bfloat16": lambda: llama().to(torch.bfloat16),
        "Llama, tied embeddings": partial(llama, tie_word_embeddings=True),
        "Qwen 3": causal(t.Qwen3Config(**GROUPED, head_dim=8)),
        "Phi 3": causal(t.Phi3Config(**GROUPED, **IDS)),
        "GPT-2 (Conv1D)": gpt2,
        "GPT-NeoX": causal(t.GPTNeoXConfig(**DENSE)),
        "OPT": causal(opt),
        "Bloom": causal(t.BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4)),
        "Falcon": causal(t.FalconConfig(**SMALL, alibi=False)),
        "Mamba": causal(mamba),
        "Mixtral (one tensor an expert)": causal(t.MixtralConfig(**GROUPED, num_local_experts=4)),
        "Qwen 2 MoE": causal(t.Qwen2MoeConfig(**MOE, num_experts=4, **shared)),
        "OLMoE": causal(t.OlmoeConfig(**GROUPED, num_experts=4, num_experts_per_tok=2)),
        "PhiMoE": causal(t.PhimoeConfig(**GROUPED, num_local_experts=4)),
        "DeepSeek V3": deepseek,
        "Jamba": causal(jamba),
        "Gemma 3 with pictures": gemma3,
        "LLaVA": llava,
    }
    encoders = {
        "T5": t5,
        "BART": bart,
        "BERT, masked language model": partial(bert, t.BertForMaskedLM),
    }
    made = [Kind(name, partial(plain, build)) for name, build in whole.items()]
    made += [Kind(name, partial(plain, build), asks=False) for name, build in encoders.items()]
    return [
        *made,
        Kind("Llama in shards", lambda root: plain(llama, root, max_shard_size="60KB")),
        Kind("shards with an overlay that the index names", _overlaid),
        Kind("shards, some lost, no index", _incomplete),
        Kind("shards that lack what the index names", _hole),
        Kind("`__metadata__` is null", _null_metadata),
        Kind("`pytorch_model.bin` (pickle)", _pickled, pickled=True),
        Kind("fine-tune saved by torch.compile (`_orig_mod.`)", partial(_prefixed, "_orig_mod.")),
        Kind("fine-tune saved by DDP (`module.`)", partial(_prefixed, "module.")),
        Kind("GPT2LMHeadModel over a bare GPT2Model", _head_over_bare_gpt2, finetune_config=True),
        Kind(
            "BertForSequenceClassification over a bare BertModel",
            _head_over_bare_bert,
            asks=False,
            finetune_config=True,
        ),
        Kind("untied fine-tune of a tied base", _untied_from_tied),
        Kind("Llama, vocabulary grown by the fine-tune", partial(_grown, llama)),
        Kind("GPT-2, vocabulary grown", partial(_grown, gpt2)),
        Kind("Mamba, vocabulary grown", partial(_grown, causal(mamba))),
        Kind("T5, vocabulary grown", partial(_grown, t5), asks=False),
        Kind("BART, vocabulary grown", partial(_grown, bart), asks=False),
        Kind("BERT masked, vocabulary grown", partial(_grown, partial(bert, t.BertForMaskedLM)), asks=False),
        Kind("old buffers (`inv_freq`) in some", _old_buffers),
        Kind("a weight is missing", _missing_weight, raw=True),
        Kind("block-scaled fp8", _fp8, packed=True),
        Kind("block-scaled fp8, with `--dequantize`", _fp8, asks=False, dequantised=_dequantised),
        Kind("GPTQ", _gptq, packed=True),
        Kind("bitsandbytes nf4", _nf4, packed=True),
        Kind("code of its own (`auto_map`)", _own_code, raw=True),
        Kind("diffusers: one UNet", _unets, asks=False),
        Kind("diffusers: a pipeline", _pipeline, asks=False),
        Kind("GGUF", _gguf, asks=False),
    ]
