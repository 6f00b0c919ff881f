"""Merging LoRA adapters through their products, so that the result does what the sum of them does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deltavcs.adapters.adapter_config import AdapterConfig, adapter_config_of
from deltavcs.adapters.factors import parse_factor, read_factor
from deltavcs.advice import Advice
from deltavcs.checkpoint.patching import reranked_files
from deltavcs.checkpoint.view import Content, replace_files, view_of, with_tensors
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.alignment import Merging
from deltavcs.merging.counterparts import MergeInput
from deltavcs.merging.formulas import derived_content
from deltavcs.merging.methods import method_named, settings_for
from deltavcs.merging.products import LoraFactors, merge_lora_exact
from deltavcs.merging.settings import Options
from deltavcs.merging.spool import Spool
from deltavcs.objects.store import ObjectStore
from deltavcs.resources import Resources
from deltavcs.tensors.cast import from_float64

EXACT_METHODS = ("average", "weighted", "task_arithmetic")


@dataclass(frozen=True, slots=True)
class _Pair:
    """Keys of the two factors of a module."""

    a: str
    b: str


def check_same_factors(objects: ObjectStore, models: Sequence[MergeInput]) -> None:
    """Refuse adapters whose factors do not mean the same: other rank, alpha, scaling or targets.

    Mashup Learning §3: "hyperparameters such as target modules, rank, and α must also match".

    Raises:
        InvalidInputError: `incompatible`.
    """
    first = _factor_settings(adapter_config_of(objects, models[0].manifest))
    for model in models[1:]:
        other = _factor_settings(adapter_config_of(objects, model.manifest))
        odd = [f"{k} {other[k]} instead of {first[k]}" for k in first if other[k] != first[k]]
        if odd:
            raise InvalidInputError(
                f"{model.name} and {models[0].name} cannot be merged factor by factor: {model.name} has"
                f" {'; '.join(odd)}",
                kind=ErrorKind.INCOMPATIBLE,
                advice=Advice.MERGE_PRODUCTS,
            )


def _factor_settings(config: AdapterConfig) -> dict[str, object]:
    return {
        "rank": config.rank,
        "alpha": config.alpha,
        "rank-stabilised scaling": config.rslora,
        "targets": ", ".join(config.target_modules),
        "rank pattern": dict(config.rank_pattern),
        "alpha pattern": dict(config.alpha_pattern),
    }


def merge_products(
    objects: ObjectStore,
    method: str,
    models: Sequence[MergeInput],
    options: Options,
    *,
    rank: int | None,
    spool: Spool,
    resources: Resources,
) -> Merging:
    """Merge adapters exactly: Σ_i w_i·s_i·B_i·A_i as one product (`merge_lora_exact`).

    The result has one rank for all modules and scale 1 (alpha = rank). Tensors that are no factors
    (`modules_to_save`) are averaged element by element.

    Args:
        method: `average`, `weighted` or `task_arithmetic`.
        rank: of the result; None for the sum of the ranks, which loses nothing.

    Raises:
        InvalidInputError: `bad-argument` for another method, `incompatible` if modules or shapes differ.
    """
    weights = _weights(method, options, len(models))
    configs = [adapter_config_of(objects, m.manifest) for m in models]
    tables = [_pairs(m) for m in models]
    _check_modules(models, tables)
    target = rank or max(_summed_rank(models, tables, module) for module in tables[0])
    lead = view_of(models[0].manifest)
    tensors: dict[str, Content] = {k: c for k, c in lead.tensors.items() if "::" in k}
    lost: dict[str, float] = {}
    for done, (module, pair) in enumerate(tables[0].items(), start=1):
        factors = [
            _factors(objects, m, table[module], config.scale(module))
            for m, table, config in zip(models, tables, configs, strict=True)
        ]
        merged = merge_lora_exact(factors, weights, target)
        lost |= {module: merged.relative_error} if merged.relative_error else {}
        for key, values in ((pair.a, merged.a), (pair.b, merged.b)):
            tensors[key] = _spooled(spool, lead.tensors[key].dtype, values)
        resources.progress("merging", done, len(tables[0]))
    whole = _whole_tensors(objects, method, models, tables, options)
    tensors.update(whole)
    view = with_tensors(objects, lead, {k: tensors[k] for k in lead.tensors})
    view = replace_files(view, reranked_files(objects, view, target))
    return Merging(view, tuple(k for k in lead.primary if k not in whole), (), (), (), lost)


def _weights(method: str, options: Options, n_models: int) -> list[float]:
    if method not in EXACT_METHODS:
        raise InvalidInputError(
            f"{method} works element by element; products of adapters can only be added",
            kind=ErrorKind.BAD_ARGUMENT,
            advice=Advice.EXACT_METHODS,
            facts={"methods": ", ".join(EXACT_METHODS)},
        )
    settings = settings_for(method_named(method), options, n_models)
    if method == "task_arithmetic":
        return [settings.scale * w for w in settings.weights]
    weights = settings.weights or (1.0,) * n_models
    total = sum(weights)
    if not total > 0:
        raise InvalidInputError(f"the weights add up to {total}", kind=ErrorKind.BAD_ARGUMENT)
    return [w / total for w in weights]


def _pairs(model: MergeInput) -> dict[str, _Pair]:
    """The factors of an adapter by module."""
    halves: dict[str, dict[str, str]] = {}
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
    return {module: _Pair(sides["A"], sides["B"]) for module, sides in halves.items()}


def _check_modules(models: Sequence[MergeInput], tables: Sequence[Mapping[str, _Pair]]) -> None:
    for model, table in zip(models[1:], tables[1:], strict=True):
        odd = sorted(table.keys() ^ tables[0].keys())
        if odd:
            raise InvalidInputError(
                f"{models[0].name} and {model.name} adapt other modules: {', '.join(odd[:3])}"
                f"{f' and {len(odd) - 3} more' if len(odd) > 3 else ''}",
                kind=ErrorKind.INCOMPATIBLE,
            )


def _summed_rank(models: Sequence[MergeInput], tables: Sequence[Mapping[str, _Pair]], module: str) -> int:
    return sum(m.manifest.primary[t[module].a].shape[0] for m, t in zip(models, tables, strict=True))


def _factors(objects: ObjectStore, model: MergeInput, pair: _Pair, scale: float) -> LoraFactors:
    a, b = (read_factor(objects, model.manifest.primary[key]) for key in (pair.a, pair.b))
    return LoraFactors(a, b, scale)


def _spooled(spool: Spool, dtype: str, values: npt.NDArray[np.float64]) -> Content:
    rounded = from_float64(np.ascontiguousarray(values).reshape(-1), dtype)
    return spool.add(dtype, values.shape, [rounded.data])


def _whole_tensors(
    objects: ObjectStore,
    method: str,
    models: Sequence[MergeInput],
    tables: Sequence[Mapping[str, _Pair]],
    options: Options,
) -> dict[str, Content]:
    """Tensors outside the factors, element by element."""
    factors = {key for pair in tables[0].values() for key in (pair.a, pair.b)}
    lead = view_of(models[0].manifest)
    out: dict[str, Content] = {}
    for key in models[0].manifest.primary:
        if key in factors:
            continue
        entries = tuple(e for m in models if (e := m.manifest.primary.get(key)) is not None)
        if len(entries) < len(models) or len({e.shape for e in entries}) > 1 or method == "task_arithmetic":
            raise InvalidInputError(
                f"{key} is trained whole and cannot be merged by {method} here",
                kind=ErrorKind.INCOMPATIBLE,
                advice=Advice.AVERAGE_WHOLE,
            )
        out[key] = derived_content(objects, method, key, entries, lead.tensors[key], options)
    return out
