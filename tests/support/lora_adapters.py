"""LoRA adapters in PEFT's layout for the matrix of `tiny_checkpoints`."""

from __future__ import annotations

import json
from pathlib import Path

from deltavcs.testing.checkpoints import raw_tensor, safetensors_bytes


def write_adapter(folder: Path, *, seed: int = 0, rank: int = 2, alpha: int = 4, layer: int = 0) -> Path:
    """An adapter of one module in a new directory; `tiny_checkpoints` have layer 0 only."""
    prefix = f"base_model.model.model.layers.{layer}"
    factors = {
        f"{prefix}.lora_A.weight": raw_tensor("F32", (rank, 8), seed=seed),
        f"{prefix}.lora_B.weight": raw_tensor("F32", (8, rank), seed=seed + 1),
    }
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": [f"layers.{layer}"]}
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(safetensors_bytes(factors))
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
