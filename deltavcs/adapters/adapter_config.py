"""The configuration of a LoRA adapter in PEFT's layout.

ΔW = s·B·A, s = α/r, or α/√r with rank-stabilised scaling (Hu et al., 2021; Kalajdzievski, 2023).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import Manifest
from deltavcs.objects.store import ObjectStore


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """The part of `adapter_config.json` that decides what an adapter computes."""

    rank: int
    alpha: float
    rslora: bool
    fan_in_fan_out: bool
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    target_modules: tuple[str, ...]

    def scale(self, module: str) -> float:
        """S for a module: α/r, or α/√r."""
        rank = _by_pattern(self.rank_pattern, module, self.rank)
        alpha = _by_pattern(self.alpha_pattern, module, self.alpha)
        return float(alpha) / (math.sqrt(rank) if self.rslora else rank)


def _by_pattern(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    for pattern, value in patterns.items():
        if module == pattern or module.endswith("." + pattern):
            return value
        try:
            if re.fullmatch(rf"(.*\.)?({pattern})", module):
                return value
        except re.error:
            continue
    return default


def parse_adapter_config(data: bytes) -> AdapterConfig:
    """Parse `adapter_config.json`.

    Raises:
        InvalidInputError: `bad-checkpoint` if it is not a LoRA configuration.
    """
    try:
        raw = json.loads(data)
        if raw.get("peft_type", "LORA") != "LORA":
            raise InvalidInputError(
                f"only LoRA adapters are supported, this one is {raw['peft_type']}",
                kind=ErrorKind.BAD_CHECKPOINT,
            )
        if raw.get("use_dora"):
            raise InvalidInputError("DoRA adapters are not supported", kind=ErrorKind.BAD_CHECKPOINT)
        modules = raw.get("target_modules") or []
        config = AdapterConfig(
            rank=int(raw["r"]),
            alpha=float(raw["lora_alpha"]),
            rslora=bool(raw.get("use_rslora", False)),
            fan_in_fan_out=bool(raw.get("fan_in_fan_out", False)),
            rank_pattern=dict(raw.get("rank_pattern") or {}),
            alpha_pattern=dict(raw.get("alpha_pattern") or {}),
            target_modules=tuple(sorted(modules if isinstance(modules, list) else [str(modules)])),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        if isinstance(exc, InvalidInputError):
            raise
        raise InvalidInputError(
            f"adapter_config.json is not a LoRA configuration: {exc!r}", kind=ErrorKind.BAD_CHECKPOINT
        ) from exc
    if config.rank <= 0 or not math.isfinite(config.alpha):
        raise InvalidInputError("adapter_config.json: r must be positive", kind=ErrorKind.BAD_CHECKPOINT)
    return config


def adapter_config_of(objects: ObjectStore, manifest: Manifest) -> AdapterConfig:
    """The configuration in a stored adapter."""
    found = next((f for f in manifest.files if f.path == "adapter_config.json" and f.tensors is None), None)
    if found is None:
        raise InvalidInputError(
            "this commit holds no adapter_config.json",
            kind=ErrorKind.BAD_CHECKPOINT,
            advice=Advice.CHECK_ADAPTER,
        )
    return parse_adapter_config(objects.blobs.read(found.blob, max_bytes=1 << 20))
