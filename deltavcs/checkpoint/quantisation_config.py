"""What the files beside a checkpoint say of its quantisation: scheme, block size, computing dtype."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from deltavcs.checkpoint.layout import CONFIG

QUANTISATION_KEYS = ("quantization_config", "compression_config", "quantization")
"""Keys of config.json, and of the configurations nested in it, that describe a quantisation."""

QUANTISATION_FILES = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
"""Files of their own that do: AutoGPTQ's, AutoAWQ's and HQQ's, ModelOpt's."""

_NAMES = {
    "gptq": "GPTQ", "awq": "AWQ", "aqlm": "AQLM", "eetq": "EETQ", "hqq": "HQQ", "vptq": "VPTQ",
    "spqr": "SpQR", "quanto": "Quanto", "mxfp4": "MXFP4", "mxfp8": "MXFP8", "nvfp4": "NVFP4",
    "bitnet": "BitNet", "higgs": "HIGGS", "auto-round": "AutoRound", "fbgemm_fp8": "fp8 of FBGEMM",
    "fp8": "fp8 with scales",
    "modelopt": "ModelOpt",
}  # fmt: skip
_DTYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_MAX_WORD = 40
# What compressed-tensors and Quark say of rotations that are undone while the model runs.
_TURNED = ("transform_config", "rotation_config")

ReadFile = Callable[[str], bytes | None]
"""Content of a small file of the checkpoint by path; None if it is not there."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What the configuration of one folder says.

    Attributes:
        method: `gptq`, `fp8`, …, in lower case; empty if it is not named.
        scheme: for people, such as `GPTQ, 4 bits`; empty if nothing is declared.
        block: rows and columns of a block of weights that share a scale.
        dtype: that the weights are computed in, as safetensors spells it; BF16 if none is named.
        loadable: config.json says it, where transformers looks for it.
        obstacle: why its weights alone would be another model; empty if they are the model.
    """

    method: str = ""
    scheme: str = ""
    block: tuple[int, int] | None = None
    dtype: str = "BF16"
    loadable: bool = False
    obstacle: str = ""


def read_declared(read: ReadFile, folder: str) -> Declared:
    """What the files of a folder declare.

    Args:
        folder: path inside the checkpoint that ends in `/`, or empty.
    """
    config = _json_object(read(folder + CONFIG))
    found = next(_sections(config), None)
    loadable = found is not None and isinstance(found.get("quant_method"), str)
    for name in QUANTISATION_FILES:
        if found is None:
            raw = _json_object(read(folder + name))
            found = next(_sections(raw), None) or (raw or None)
    dtype = _dtype(config)
    if found is None:
        return Declared(dtype=dtype)
    method = _word(found, "quant_method", "quant_algo", "quant_type").lower()
    turned = next((key for key in _TURNED if found.get(key)), "")
    obstacle = f"its activations are transformed ({turned})" if turned else ""
    return Declared(method, _scheme(method, found), _block(found), dtype, loadable, obstacle)


def _json_object(data: bytes | None) -> dict[str, Any]:
    try:
        value = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _sections(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Descriptions of a quantisation, in the configuration itself before those nested in it."""
    for section in (config, *(v for v in config.values() if isinstance(v, dict))):
        yield from (found for k in QUANTISATION_KEYS if isinstance(found := section.get(k), dict) and found)


def _dtype(config: dict[str, Any]) -> str:
    for section in (config, *(v for v in config.values() if isinstance(v, dict))):
        for key in ("dtype", "torch_dtype"):
            name = section.get(key)
            if isinstance(name, str) and name.removeprefix("torch.") in _DTYPES:
                return _DTYPES[name.removeprefix("torch.")]
    return "BF16"


def _word(section: dict[str, Any], *keys: str) -> str:
    """The first of the keys that holds text; at most as long as a message bears."""
    values = (section.get(k) for k in keys)
    text = next((v for v in values if isinstance(v, str) and v), "")
    return "".join(c for c in text if c.isprintable())[:_MAX_WORD]


def _scheme(method: str, section: dict[str, Any]) -> str:
    if method == "bitsandbytes" or section.get("load_in_4bit") is True or section.get("load_in_8bit") is True:
        if section.get("load_in_8bit") is True:
            return "bitsandbytes, 8 bits"
        return f"bitsandbytes {_word(section, 'bnb_4bit_quant_type') or 'fp4'}, 4 bits"
    if method == "fp8" and _block(section) is not None:
        return "block-scaled fp8"
    if method == "compressed-tensors":
        kind = _word(section, "format")
        return f"compressed-tensors, {kind}" if kind else "compressed-tensors"
    if method == "modelopt":
        return f"ModelOpt {_word(section, 'quant_algo')}".rstrip()
    if not method and "group_size" in section and set(section) <= {"group_size", "bits", "mode"}:
        method = "MLX"
    name = _NAMES.get(method, method) or "a scheme that it does not name"
    bits = next((b for k in ("bits", "w_bit", "weight_bits", "nbits") if (b := _count(section.get(k)))), None)
    return f"{name}, {bits} bits" if bits else name


def _block(section: dict[str, Any]) -> tuple[int, int] | None:
    """The one size of a block that is named, for all weights or for groups of them."""
    groups = section.get("config_groups")
    each = (
        [g.get("weights") for g in groups.values() if isinstance(g, dict)] if isinstance(groups, dict) else []
    )
    named = {_size(section.get("weight_block_size")), *(_size_in_group(w) for w in each)} - {None}
    return named.pop() if len(named) == 1 else None


def _size_in_group(weights: object) -> tuple[int, int] | None:
    """The size of a block in compressed-tensors' description of some weights."""
    if not isinstance(weights, dict):
        return None
    if weights.get("strategy") in ("group", "tensor_group") and (size := _count(weights.get("group_size"))):
        return 1, size
    return _size(weights.get("block_structure"))


def _size(value: object) -> tuple[int, int] | None:
    if isinstance(value, str) and re.fullmatch(r"\d{1,6}x\d{1,6}", value):
        value = [int(n) for n in value.split("x")]
    if isinstance(value, list) and len(value) == 2:
        rows, columns = (_count(n) for n in value)
        if rows and columns:
            return rows, columns
    return None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
