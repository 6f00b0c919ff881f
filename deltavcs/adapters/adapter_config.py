"""What `adapter_config.json` says, as PEFT writes it.

ΔW = s·B·A, s = α/r, or α/√r with rank-stabilised scaling (Hu et al., 2021; Kalajdzievski, 2023). Every type
can be stored; what can be folded says `AdapterConfig.why_not_folded`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deltavcs.adapters.foreign_loras import refuse_foreign_lora
from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import Manifest
from deltavcs.objects.store import ObjectStore

LORA = "LORA"
TOKENS = "TRAINABLE_TOKENS"

# Initialisations that leave the base's weight as it is; every other one takes something out of it, and then
# the factors belong to what is left (`peft.tuners.lora.layer.LoraLayer.update_layer`).
_KEEPS_BASE = frozenset({"gaussian", "orthogonal", "eva", "mica", "true", "false"})
# Settings that are read here, or that say where and how it was trained: nothing more about what it computes.
_UNDERSTOOD = frozenset(
    {
        "auto_mapping", "base_model_name_or_path", "inference_mode", "peft_type",
        "peft_version", "revision", "task_type",
        "alpha_pattern", "bias", "ensure_weight_tying", "exclude_modules", "fan_in_fan_out",
        "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha", "lora_bias",
        "lora_dropout", "modules_to_save", "r",
        "rank_pattern", "target_modules", "target_parameters", "trainable_token_indices", "use_dora",
        "use_rslora",
        "corda_config", "eva_config", "lora_ga_config", "loftq_config",
        "megatron_core", "merge_weights", "qalora_group_size", "runtime_config", "velora_config",
        "lora_dtype", "lorap_emb_lr", "lorap_lr_ratio",
        "init_weights", "token_indices",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """The part of `adapter_config.json` that decides what an adapter computes.

    Attributes:
        peft_type: as PEFT spells it, such as `LORA` or `IA3`. The settings of LoRA below are meaningless for
            most others.
        initialisation: `init_lora_weights` in lower case; empty if it is PEFT's usual one.
        tokens: name of an embedding → rows that were trained; empty name for the input embedding.
        model_class: the class of transformers that it was trained in, if the configuration names it.
        beyond: settings that are in effect and not understood here.
    """

    rank: int
    alpha: float
    rslora: bool
    fan_in_fan_out: bool
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    target_modules: tuple[str, ...]
    peft_type: str = LORA
    dora: bool = False
    initialisation: str = ""
    target_parameters: tuple[str, ...] = ()
    modules_to_save: tuple[str, ...] = ()
    tokens: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    task_type: str | None = None
    model_class: str | None = None
    beyond: tuple[str, ...] = ()

    def scale(self, module: str) -> float:
        """S for a module (for an adapted parameter: its whole name): α/r, or α/√r."""
        rank, alpha = self.rank_of(module), _by_pattern(self.alpha_pattern, module, self.alpha)
        return float(alpha) / (math.sqrt(rank) if self.rslora else rank)

    def rank_of(self, module: str) -> int:
        """R for a module, or for an adapted parameter by its whole name."""
        return int(_by_pattern(self.rank_pattern, module, self.rank))

    @property
    def why_not_folded(self) -> str | None:
        """Why base and adapter cannot be made one checkpoint; None if they can."""
        if self.peft_type == TOKENS:
            return None
        if self.peft_type != LORA:
            return f"it is of the type {self.peft_type}, and only LoRA can be folded"
        if self.initialisation and self.initialisation not in _KEEPS_BASE:
            return (
                f"it was initialised by {self.initialisation}, which changes the base; PEFT converts it to"
                " plain LoRA with save_pretrained(…, path_initial_model_for_weight_conversion=…)"
            )
        if self.beyond:
            return f"it was trained with {', '.join(self.beyond)}, which folding does not know"
        return None

    @property
    def kind(self) -> str:
        """The type in words, such as `LORA`, `LORA (DoRA)` or `IA3`."""
        if self.peft_type != LORA:
            return self.peft_type
        told = ["DoRA"] if self.dora else []
        told += ["rank-stabilised"] if self.rslora else []
        if self.initialisation and self.initialisation not in ("true", "false"):
            told.append(self.initialisation)
        return f"{LORA} ({', '.join(told)})" if told else LORA


def _by_pattern(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    """The value of the first pattern that matches a module, as `peft.utils.other.get_pattern_key` does."""
    for pattern, value in patterns.items():
        try:
            if re.match(rf"(.*\.)?({pattern})$", module):
                return value
        except re.error:
            continue
    return default


def parse_adapter_config(data: bytes) -> AdapterConfig:
    """Parse `adapter_config.json`.

    Raises:
        InvalidInputError: `bad-checkpoint` if it is no configuration of PEFT, or a LoRA without its rank.
    """
    try:
        config = _parse(json.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        if isinstance(exc, InvalidInputError):
            raise
        raise InvalidInputError(
            f"adapter_config.json is no configuration of an adapter: {exc!r}", kind=ErrorKind.BAD_CHECKPOINT
        ) from exc
    if config.peft_type == LORA and (config.rank <= 0 or not math.isfinite(config.alpha)):
        raise InvalidInputError("adapter_config.json: r must be positive", kind=ErrorKind.BAD_CHECKPOINT)
    return config


def _parse(raw: dict[str, Any]) -> AdapterConfig:
    peft_type = str(raw.get("peft_type") or LORA).upper()
    is_lora = peft_type == LORA
    mapping = raw.get("auto_mapping") or {}
    unknown = sorted(name for name, value in raw.items() if value and name not in _UNDERSTOOD)
    return AdapterConfig(
        rank=int(raw["r"]) if is_lora else 0,
        alpha=float(raw["lora_alpha"]) if is_lora else 0.0,
        rslora=bool(raw.get("use_rslora", False)),
        fan_in_fan_out=bool(raw.get("fan_in_fan_out", False)),
        rank_pattern=_pattern(raw.get("rank_pattern"), int) if is_lora else {},
        alpha_pattern=_pattern(raw.get("alpha_pattern"), float) if is_lora else {},
        target_modules=_names(raw.get("target_modules")),
        peft_type=peft_type,
        dora=is_lora and bool(raw.get("use_dora", False)),
        initialisation=_initialisation(raw.get("init_lora_weights")),
        target_parameters=_names(raw.get("target_parameters")),
        modules_to_save=_names(raw.get("modules_to_save")),
        tokens=_tokens(raw.get("trainable_token_indices"), raw.get("token_indices")),
        task_type=_text(raw.get("task_type")),
        model_class=_text(mapping.get("base_model_class")) if isinstance(mapping, dict) else None,
        beyond=tuple(unknown) if is_lora else (),
    )


def _pattern(raw: Any, kind: type) -> dict[str, Any]:
    return {str(name): kind(value) for name, value in dict(raw or {}).items()}


def _names(raw: Any) -> tuple[str, ...]:
    """Names in a fixed order: PEFT writes a set, in any."""
    return tuple(sorted(str(n) for n in raw)) if isinstance(raw, list) else (str(raw),) if raw else ()


def _initialisation(raw: Any) -> str:
    return "" if raw is None or raw is True else str(raw).lower()


def _tokens(of_lora: Any, of_type: Any) -> dict[str, tuple[int, ...]]:
    raw = of_lora or of_type or {}
    table = raw if isinstance(raw, dict) else {"": raw}
    return {str(name): tuple(int(i) for i in rows) for name, rows in table.items()}


def _text(raw: Any) -> str | None:
    return raw if isinstance(raw, str) else None


def read_adapter_config(objects: ObjectStore, manifest: Manifest) -> AdapterConfig:
    """The configuration in a stored adapter, of whatever type.

    Raises:
        InvalidInputError: `bad-checkpoint` if there is none.
    """
    found = next((f for f in manifest.files if f.path == "adapter_config.json" and f.tensors is None), None)
    if found is None:
        refuse_foreign_lora(manifest, "this commit")
        raise InvalidInputError(
            "this commit holds no adapter_config.json",
            kind=ErrorKind.BAD_CHECKPOINT,
            advice=Advice.CHECK_ADAPTER,
        )
    return parse_adapter_config(objects.blobs.read(found.blob, max_bytes=1 << 20))


def adapter_config_of(objects: ObjectStore, manifest: Manifest) -> AdapterConfig:
    """The configuration in a stored LoRA adapter.

    Raises:
        InvalidInputError: `bad-checkpoint` if there is none, or if it is of another type.
    """
    config = read_adapter_config(objects, manifest)
    if config.peft_type != LORA:
        raise InvalidInputError(
            f"this needs a LoRA adapter, and this one is of the type {config.peft_type}",
            kind=ErrorKind.BAD_CHECKPOINT,
        )
    return config
