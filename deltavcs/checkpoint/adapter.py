"""LoRA adapters in PEFT's layout: their configuration, and which factors belong to which weight.

ΔW = s·B·A, s = α/r, or α/√r with rank-stabilised scaling (Hu et al., 2021; Kalajdzievski, 2023).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deltavcs.advice import Advice
from deltavcs.checkpoint.elements import read_elements
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import Manifest, TensorEntry
from deltavcs.objects.store import ObjectStore
from deltavcs.tensors.dtypes import n_elements

_PREFIX = "base_model.model."
_WRAPPER = re.compile(r"\.(?:modules_to_save|base_layer)\.")
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(?:\.weight)?\Z")


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


@dataclass(frozen=True, slots=True)
class FactorName:
    """What the key of a factor says.

    Attributes:
        module: the adapted module, as the base names it.
        side: `A` or `B`.
        embedding: it is of an embedding, and transposed.
    """

    module: str
    side: str
    embedding: bool


def parse_factor(key: str) -> FactorName | None:
    """Read the key of a tensor of an adapter; None if it is no factor."""
    found = _FACTOR.match(key.removeprefix(_PREFIX))
    if found is None:
        return None
    return FactorName(found["module"], found["side"], found["embedding"] is not None)


@dataclass(frozen=True, slots=True)
class Factors:
    """The two factors of one module, B·A of the weight's shape."""

    a: TensorEntry
    b: TensorEntry
    embedding: bool


def match_adapter(adapter: Manifest, base: Manifest) -> tuple[dict[str, Factors], dict[str, TensorEntry]]:
    """Which weights of the base an adapter changes: by factors, and whole.

    Whole are `modules_to_save`, and embeddings and heads that PEFT saves beneath their factors
    (`base_layer`): the factors are then added to those.

    Raises:
        InvalidInputError: `incompatible` if a module is not in the base, or a factor lacks its twin.
    """
    weights = base.primary
    halves: dict[str, dict[FactorName, TensorEntry]] = {}
    whole: dict[str, TensorEntry] = {}
    for key, entry in adapter.primary.items():
        name, found = key.removeprefix(_PREFIX), parse_factor(key)
        if found is not None:
            halves.setdefault(found.module, {})[found] = entry
        elif ".original_module." not in name:  # PEFT's copy of a weight that the adapter replaces
            whole[_base_key(_WRAPPER.sub(".", name), weights)] = entry
    factors = {}
    for module, pair in halves.items():
        name = f"{module}.weight"
        embedding = FactorName(module, "A", True) in pair
        a, b = (pair.get(FactorName(module, side, embedding)) for side in "AB")
        if a is None or b is None or len(pair) != 2:
            raise InvalidInputError(f"{name}: an adapter needs both A and B", kind=ErrorKind.INCOMPATIBLE)
        factors[_base_key(name, weights)] = Factors(a, b, embedding)
    return factors, whole


def _base_key(name: str, weights: Mapping[str, TensorEntry]) -> str:
    if name not in weights:
        raise InvalidInputError(
            f"the adapter changes {name}, which the base does not have",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.CHECK_BASE,
        )
    return name


def read_factor(objects: ObjectStore, entry: TensorEntry) -> npt.NDArray[np.float64]:
    """One factor as a matrix of float64.

    Raises:
        InvalidInputError: `incompatible` if it is none.
    """
    if len(entry.shape) != 2:
        raise InvalidInputError(
            f"a factor has shape {list(entry.shape)}; only matrices are supported",
            kind=ErrorKind.INCOMPATIBLE,
        )
    return read_elements(objects, entry, 0, n_elements(entry.shape)).reshape(entry.shape)
