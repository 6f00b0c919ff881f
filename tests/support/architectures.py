"""Tiny models of many families, with random weights, as transformers makes them: nothing is downloaded.

Every entry gives the same weights each time; `nudged` makes a fine-tune of one, `word_tokenizer`
the tokenizer of all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

VOCAB = 64
# Sizes under the names that most families use.
_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": None,
}  # fmt: skip
_GROUPED = {**_COMMON, "num_key_value_heads": 2}
_GPT2: dict[str, Any] = {
    "vocab_size": VOCAB, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_VISION: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 16, "patch_size": 8, "num_channels": 3,
}  # fmt: skip


def _model(name: str, config: Mapping[str, Any]) -> Callable[[], PreTrainedModel]:
    """A function that makes the model of the class `name` from the settings of its configuration."""

    def make() -> PreTrainedModel:
        torch.manual_seed(0)
        model_class = getattr(transformers, name)
        return model_class(model_class.config_class(**config)).eval()

    return make


def nudged(model: PreTrainedModel, *, seed: int = 1, size: float = 0.02) -> PreTrainedModel:
    """The model itself, with every parameter moved a little."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator).to(parameter.dtype) * size)
    return model


def word_tokenizer(*, extra: Sequence[str] = (), chat_template: str | None = None) -> Any:
    """A tokenizer of 60 words, `w0` to `w56`, all within the vocabulary; `extra` get the next ids."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<unk>", "<s>", "</s>", *(f"w{i}" for i in range(57))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    fast.add_tokens(list(extra))
    if chat_template is not None:
        fast.chat_template = chat_template
    return fast


def _experts(**more: Any) -> dict[str, Any]:
    return {**_GROUPED, "num_experts_per_tok": 2, "moe_intermediate_size": 24, **more}


_DEEPSEEK = _experts(
    num_key_value_heads=4, n_routed_experts=4, n_shared_experts=1, n_group=2, topk_group=1,
    first_k_dense_replace=1, q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=8,
    qk_nope_head_dim=8, v_head_dim=8, head_dim=8,
)  # fmt: skip
_GEMMA3_TEXT = {
    **_GROUPED,
    "head_dim": 8,
    "sliding_window": 16,
    "layer_types": ["sliding_attention", "full_attention"],
}

# Causal language models: what load_model, rank, mashup and connectivity run.
ARCHITECTURES: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": _model("LlamaForCausalLM", _GROUPED),
    "llama-tied": _model("LlamaForCausalLM", {**_GROUPED, "tie_word_embeddings": True}),
    "mistral": _model("MistralForCausalLM", _GROUPED),
    "qwen2": _model("Qwen2ForCausalLM", _GROUPED),
    "qwen3": _model("Qwen3ForCausalLM", {**_GROUPED, "head_dim": 8}),
    "gemma3_text": _model("Gemma3ForCausalLM", _GEMMA3_TEXT),
    "phi3": _model("Phi3ForCausalLM", _GROUPED),
    "stablelm": _model("StableLmForCausalLM", {**_COMMON, "num_key_value_heads": 4}),
    "gpt2": _model("GPT2LMHeadModel", _GPT2),
    "gpt_neox": _model("GPTNeoXForCausalLM", _COMMON),
    "opt": _model("OPTForCausalLM", {**_COMMON, "ffn_dim": 48, "word_embed_proj_dim": 32}),
    "bloom": _model("BloomForCausalLM", {"vocab_size": VOCAB, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "falcon": _model("FalconForCausalLM", {**_COMMON, "alibi": False}),
    "mamba": _model(
        "MambaForCausalLM", {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
    ),
    "mixtral": _model("MixtralForCausalLM", {**_GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen2_moe": _model(
        "Qwen2MoeForCausalLM", _experts(num_experts=4, shared_expert_intermediate_size=24)
    ),
    "qwen3_moe": _model("Qwen3MoeForCausalLM", _experts(num_experts=4, head_dim=8)),
    "olmoe": _model("OlmoeForCausalLM", {**_GROUPED, "num_experts": 4, "num_experts_per_tok": 2}),
    "phimoe": _model("PhimoeForCausalLM", {**_GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "deepseek_v2": _model("DeepseekV2ForCausalLM", _DEEPSEEK),
    "deepseek_v3": _model("DeepseekV3ForCausalLM", _DEEPSEEK),
    "jamba": _model(
        "JambaForCausalLM",
        {
            **_GROUPED, "num_hidden_layers": 4, "num_experts": 4, "num_experts_per_tok": 2,
            "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2,
            "expert_layer_offset": 1, "use_mamba_kernels": False, "mamba_d_state": 8, "mamba_dt_rank": 4,
        },
    ),
    "llava": _model(
        "LlavaForConditionalGeneration",
        {
            "vision_config": {**_VISION, "model_type": "clip_vision_model", "num_hidden_layers": 2},
            "text_config": {**_GROUPED, "model_type": "llama"}, "image_token_index": 63,
        },
    ),
    "gemma3": _model(
        "Gemma3ForConditionalGeneration",
        {
            "vision_config": {**_VISION, "model_type": "siglip_vision_model"}, "text_config": _GEMMA3_TEXT,
            "mm_tokens_per_image": 4, "image_token_id": 63, "boi_token_id": 61, "eoi_token_id": 62,
        },
    ),
}  # fmt: skip

# What can be stored, transferred and merged, but is no causal language model.
OTHER_ARCHITECTURES: dict[str, Callable[[], PreTrainedModel]] = {
    "gpt2-bare": _model("GPT2Model", _GPT2),
    "bert": _model("BertModel", _COMMON),
    "bert-mlm": _model("BertForMaskedLM", _COMMON),
    "t5": _model(
        "T5ForConditionalGeneration",
        {
            "vocab_size": VOCAB, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4,
            "decoder_start_token_id": 0,
        },
    ),
    "bart": _model(
        "BartForConditionalGeneration",
        {
            "vocab_size": VOCAB, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
            "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2,
            "pad_token_id": 0, "decoder_start_token_id": 2, "forced_eos_token_id": 2,
        },
    ),
}  # fmt: skip
