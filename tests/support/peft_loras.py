"""LoRA adapters that PEFT itself makes and reads, on the tiny Llama of the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_llama import build_model


def save_base(folder: Path, *, seed: int = 0, nudge: int = 0, **settings: Any) -> Path:
    """The tiny Llama as a checkpoint; with `nudge` a later version of it."""
    import torch

    model = build_model(seed=seed, **settings)
    if nudge:
        generator = torch.Generator().manual_seed(nudge)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype))
    model.save_pretrained(folder)
    return folder


def save_lora(folder: Path, base: Path, *, seed: int = 1, zero: bool = False, **settings: Any) -> Path:
    """An adapter whose every tensor was trained, or (`zero`) as nobody initialises one: A and B zero."""
    import torch
    from peft import LoraConfig, get_peft_model

    chosen = {"r": 2, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
    torch.manual_seed(seed)
    model = get_peft_model(load_base(base), LoraConfig(**{**chosen, **settings}))
    model.peft_config["default"].base_model_name_or_path = str(base)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.zeros_like(parameter) if zero else 0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


def load_base(folder: Path) -> Any:
    """A model from a checkpoint."""
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(folder).eval()


def attach(base: Path, **adapters: Path) -> Any:
    """A PEFT model with adapters by name."""
    from peft import PeftModel

    (first, path), *others = adapters.items()
    model = PeftModel.from_pretrained(load_base(base), path, adapter_name=first)
    for name, other in others:
        model.load_adapter(other, name)
    return model.eval()


def updates(model: Any, adapter: str) -> dict[str, Any]:
    """ΔW of every module that an adapter changes, as PEFT computes it."""
    from peft.tuners.lora.layer import LoraLayer

    return {
        name.removeprefix("base_model.model."): module.get_delta_weight(adapter).detach().double().numpy()
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer) and (adapter in module.lora_A or adapter in module.lora_embedding_A)
    }


def logits(model: Any) -> Any:
    """What a model makes of a few tokens, float64, shape (1, tokens, vocabulary)."""
    import torch

    with torch.no_grad():
        return model(input_ids=torch.arange(1, 12)[None]).logits.double().numpy()
