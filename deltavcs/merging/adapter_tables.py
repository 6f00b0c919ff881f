"""An adapter as a merge reads it: its settings, and the factors of each module."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deltavcs.adapters.adapter_config import adapter_config_of
from deltavcs.adapters.adapter_keys import Part, parse_key, whole_names
from deltavcs.adapters.factors import group_tensors, parse_factor
from deltavcs.advice import Advice
from deltavcs.checkpoint.elements import read_elements
from deltavcs.checkpoint.layout import ADAPTER_CONFIG, MAX_JSON_BYTES
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.counterparts import MergeInput
from deltavcs.merging.products import LoraFactors
from deltavcs.objects.model import Manifest, TensorEntry
from deltavcs.objects.store import ObjectStore
from deltavcs.tensors.dtypes import n_elements

# What an adapter's tensors mean does not depend on these.
_HARMLESS = frozenset(
    """auto_mapping base_model_class base_model_name_or_path parent_library peft_version revision task_type
    inference_mode lora_dropout init_weights target_modules exclude_modules modules_to_save peft_type
    layers_to_transform layers_pattern megatron_core megatron_config loftq_config eva_config corda_config
    lora_ga_config runtime_config ephemeral_gpu_offload""".split()
)
_DEFAULTS = {"bias": "none"}
# Ways to draw the factors that leave the base as it is.
_PLAIN_INITS = (True, False, "gaussian", "eva", "orthogonal")
_WORDS = {
    "r": "rank",
    "lora_alpha": "alpha",
    "use_rslora": "rank-stabilised scaling",
    "rank_pattern": "rank pattern",
    "alpha_pattern": "alpha pattern",
    "use_dora": "DoRA",
}
MERGED_TYPES = ("LORA", "IA3")


def raw_config(objects: ObjectStore, manifest: Manifest) -> dict[str, Any]:
    """The whole `adapter_config.json` of a stored adapter; empty if it has none that can be read."""
    found = next((f for f in manifest.files if f.path == ADAPTER_CONFIG and f.tensors is None), None)
    if found is None or found.size > MAX_JSON_BYTES:
        return {}
    try:
        raw = json.loads(objects.blobs.read(found.blob, max_bytes=MAX_JSON_BYTES))
    except (ValueError, RecursionError):
        return {}
    return raw if isinstance(raw, dict) else {}


def check_same_factors(objects: ObjectStore, models: Sequence[MergeInput]) -> None:
    """Refuse adapters whose tensors do not mean the same: other type, rank, alpha, scaling or targets.

    Mashup Learning §3: "hyperparameters such as target modules, rank, and α must also match". LoRA's factors
    (and DoRA's magnitudes) and IA3's vectors are merged element by element, as PEFT merges them; those of
    other types are not.

    Raises:
        InvalidInputError: `incompatible`.
    """
    configs = [raw_config(objects, m.manifest) for m in models]
    types = [str(c.get("peft_type", "LORA")).upper() for c in configs]
    for model, kind in zip(models, types, strict=True):
        if kind not in MERGED_TYPES:
            raise InvalidInputError(
                f"{model.name} is an adapter of type {kind}; only LoRA and IA3 can be merged",
                kind=ErrorKind.INCOMPATIBLE,
            )
    for model, kind, config in zip(models[1:], types[1:], configs[1:], strict=True):
        if kind != types[0]:
            raise InvalidInputError(
                f"{model.name} is of type {kind}, {models[0].name} of type {types[0]}: they cannot be merged",
                kind=ErrorKind.INCOMPATIBLE,
            )
        odd = [*_odd_settings(configs[0], config), *_odd_targets(models[0], model)]
        if odd:
            raise InvalidInputError(
                f"{model.name} and {models[0].name} cannot be merged factor by factor: {model.name} has"
                f" {'; '.join(odd)}",
                kind=ErrorKind.INCOMPATIBLE,
                advice=_products_help(kind, configs[0], config),
            )


def _products_help(kind: str, *configs: Mapping[str, Any]) -> Advice | None:
    return Advice.MERGE_PRODUCTS if kind == "LORA" and not any(c.get("use_dora") for c in configs) else None


def _odd_settings(first: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    keys = sorted((first.keys() | other.keys()) - _HARMLESS)
    pairs = [(k, _setting(first, k), _setting(other, k)) for k in keys]
    return [f"{_WORDS.get(k, k)} {_said(b)} instead of {_said(a)}" for k, a, b in pairs if a != b]


def _said(setting: Any) -> str:
    """A setting in words."""
    return "off" if setting is None else "on" if setting is True else str(setting)


def _setting(config: Mapping[str, Any], key: str) -> Any:
    """The setting; what older versions of PEFT did not write yet is what it was by default."""
    value = config.get(key)
    if key == "init_lora_weights" and value in _PLAIN_INITS:
        return None
    return (value if value is not None else _DEFAULTS.get(key)) or None


def _odd_targets(first: MergeInput, other: MergeInput) -> list[str]:
    """By the tensors that there are: the settings may say the same modules in several ways."""
    ours, theirs = first.manifest.primary.keys(), other.manifest.primary.keys()
    odd = sorted(theirs - ours) or sorted(ours - theirs)
    return [f"{'no ' if odd[0] in ours else ''}{odd[0]}"] if odd else []


@dataclass(frozen=True, slots=True)
class FactorKeys:
    """Keys of the two factors of a module in an adapter, and s."""

    a: str
    b: str
    scale: float


@dataclass(frozen=True, slots=True)
class AdapterTable:
    """A LoRA adapter whose products are merged.

    Attributes:
        modules: by name of the module.
        config: all of `adapter_config.json`.
    """

    model: MergeInput
    modules: Mapping[str, FactorKeys]
    config: Mapping[str, Any]

    def entry(self, key: str) -> TensorEntry | None:
        """A tensor of the adapter."""
        return self.model.manifest.primary.get(key)

    def rank(self, module: str) -> int:
        """Rank of a module's factors; 0 if the adapter leaves it alone."""
        keys = self.modules.get(module)
        return self.model.manifest.primary[keys.a].shape[0] if keys is not None else 0

    def factors(self, objects: ObjectStore, module: str) -> LoraFactors | None:
        """The factors of a module as matrices, those of a convolution flattened: None if it has none."""
        keys = self.modules.get(module)
        if keys is None:
            return None
        a, b = (self._matrix(objects, key) for key in (keys.a, keys.b))
        return LoraFactors(a, b, keys.scale)

    def _matrix(self, objects: ObjectStore, key: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        entry = self.model.manifest.primary[key]
        if len(entry.shape) < 2 or 0 in entry.shape:
            raise InvalidInputError(
                f"{self.model.name}: {key} has shape {list(entry.shape)}, which is no factor",
                kind=ErrorKind.INCOMPATIBLE,
            )
        values = read_elements(objects, entry, 0, n_elements(entry.shape))
        return values.reshape(entry.shape[0], -1)


def adapter_table(objects: ObjectStore, model: MergeInput) -> AdapterTable:
    """Read an adapter whose products are to be merged.

    Raises:
        InvalidInputError: `incompatible` for what is no sum with a product: DoRA, factors of parameters with
            several matrices, a factor without its twin; `bad-checkpoint` as `adapter_config_of`.
    """
    raw = raw_config(objects, model.manifest)
    for setting, what in (
        ("use_dora", "DoRA scales the weight with its update"),
        ("target_parameters", "it adapts parameters that hold several matrices"),
    ):
        if raw.get(setting):
            raise InvalidInputError(
                f"{model.name} cannot be merged through its products: {what}", kind=ErrorKind.INCOMPATIBLE
            )
    config = adapter_config_of(objects, model.manifest)
    if config.why_not_folded is not None:
        raise InvalidInputError(
            f"{model.name} cannot be merged through its products: {config.why_not_folded}",
            kind=ErrorKind.INCOMPATIBLE,
        )
    halves: dict[str, dict[str, str]] = {}
    if twice := group_tensors(model.manifest.primary).twice:
        raise InvalidInputError(
            f"{model.name} holds both {' and '.join(twice)}: two adapters in one file",
            kind=ErrorKind.INCOMPATIBLE,
        )
    for key in model.manifest.primary:
        found = parse_factor(key)
        if found is not None:
            halves.setdefault(found.module, {})[found.side] = key
    single = [module for module, sides in halves.items() if len(sides) != 2]
    if single or not halves:
        raise InvalidInputError(
            f"{model.name}: {single[0]} lacks one of its factors"
            if single
            else f"{model.name} has no factors",
            kind=ErrorKind.INCOMPATIBLE,
        )
    modules = {m: FactorKeys(sides["A"], sides["B"], config.scale(m)) for m, sides in halves.items()}
    return AdapterTable(model, modules, raw)


def check_products_add(tables: Sequence[AdapterTable], method: str) -> None:
    """Refuse adapters whose products can be added, and what else they hold cannot.

    Raises:
        InvalidInputError: `incompatible`.
    """
    for table in tables[1:]:
        for setting, what in (("trainable_token_indices", "tokens"), ("lora_bias", "biases beside factors")):
            if (table.config.get(setting) or None) != (tables[0].config.get(setting) or None):
                raise InvalidInputError(
                    f"{table.model.name} and {tables[0].model.name} cannot be merged through their products:"
                    f" they trained other {what} ({setting})",
                    kind=ErrorKind.INCOMPATIBLE,
                )
    if tables[0].config.get("lora_bias") and method not in ("average", "weighted", "task_arithmetic"):
        raise InvalidInputError(
            f"{method} does not merge biases beside factors (lora_bias)", kind=ErrorKind.INCOMPATIBLE
        )
    for table in tables:
        for whole in filter(None, map(_trained_whole, table.model.manifest.primary)):
            other = next((t for t in tables if whole in t.modules and t is not table), None)
            if other is not None:
                raise InvalidInputError(
                    f"{table.model.name} holds {whole} whole, and {other.model.name} has factors for it:"
                    " they cannot be merged as adapters",
                    kind=ErrorKind.INCOMPATIBLE,
                )


def _trained_whole(key: str) -> str | None:
    """The module whose weight an adapter keeps in place of the base's; None for any other tensor."""
    found = parse_key(key)
    whole = found.part is Part.WHOLE and ".base_layer." not in found.module
    return whole_names(found.module)[0].rpartition(".")[0] if whole else None
