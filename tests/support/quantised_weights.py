"""Checkpoints of 8-bit floats with scales, as releases ship them, from plain ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file


def block_scaled(weight: torch.Tensor, rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Blocks of that many rows and columns, each divided by its scale; the last ones may be smaller."""
    grid = [range(0, n, size) for n, size in zip(weight.shape, (rows, columns), strict=True)]
    packed = torch.zeros(weight.shape, dtype=torch.float8_e4m3fn)
    scales = torch.zeros(len(grid[0]), len(grid[1]))
    for i, top in enumerate(grid[0]):
        for j, left in enumerate(grid[1]):
            at = (slice(top, top + rows), slice(left, left + columns))
            scales[i, j] = weight[at].float().abs().max() / 448
            packed[at] = (weight[at].float() / scales[i, j]).to(torch.float8_e4m3fn)
    return packed, scales


def unscaled(packed: torch.Tensor, scales: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """The weights in float64, block by block."""
    out = packed.to(torch.float64)
    for i in range(scales.shape[0]):
        for j in range(scales.shape[1]):
            out[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns] *= scales[i, j].double()
    return out


def quantise_folder(folder: Path, rows: int = 16, columns: int = 16) -> None:
    """Make block-scaled fp8 of a folder that transformers wrote."""
    path = folder / "model.safetensors"
    state: dict[str, torch.Tensor] = {}
    for name, value in load_file(path).items():
        if "proj" in name:
            state[name], state[f"{name}_scale_inv"] = block_scaled(value, rows, columns)
        else:
            state[name] = value
    save_file(state, path, {"format": "pt"})
    how = {"quant_method": "fp8", "weight_block_size": [rows, columns], "activation_scheme": "dynamic"}
    edit_config(folder, quantization_config=how)


def edit_config(folder: Path, **values: Any) -> None:
    """Set values of config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
