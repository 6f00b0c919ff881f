"""Merging LoRA adapters through their products, so that the result does what the sum of them does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from deltavcs.adapters.adapter_keys import Part, parse_key
from deltavcs.adapters.base_weights import BaseWeights
from deltavcs.adapters.saved_weights import saved_weights
from deltavcs.advice import Advice
from deltavcs.checkpoint.elements import read_elements
from deltavcs.checkpoint.patching import merged_adapter_files
from deltavcs.checkpoint.view import Content, View, read_header, replace_files, view_of, with_tensors
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.adapter_tables import AdapterTable, adapter_table, check_products_add
from deltavcs.merging.alignment import Merging
from deltavcs.merging.counterparts import MergeInput
from deltavcs.merging.formulas import derived_content
from deltavcs.merging.methods import method_named, settings_for
from deltavcs.merging.products import LoraFactors, LoraMerge, merge_lora_exact
from deltavcs.merging.settings import Options, Settings
from deltavcs.merging.sparse_products import SPARSE_METHODS, merge_sparse_products
from deltavcs.merging.spool import Spool
from deltavcs.objects.model import Manifest, TensorEntry
from deltavcs.objects.store import ObjectStore
from deltavcs.resources import Resources
from deltavcs.tensors.cast import from_float64
from deltavcs.tensors.dtypes import n_elements
from deltavcs.tensors.safetensors import build_header

EXACT_METHODS = ("average", "weighted", "task_arithmetic", *SPARSE_METHODS)


@dataclass(frozen=True, slots=True)
class _Job:
    """A merge of products under way."""

    objects: ObjectStore
    method: str
    options: Options
    settings: Settings
    tables: Sequence[AdapterTable]
    base: Manifest
    rank: int
    spool: Spool
    lost: dict[str, float] = field(default_factory=dict)

    @property
    def modules(self) -> list[str]:
        """All that any of the adapters has factors for."""
        return list(dict.fromkeys(m for t in self.tables for m in t.modules))


def merge_products(
    objects: ObjectStore,
    method: str,
    models: Sequence[MergeInput],
    options: Options,
    *,
    base: Manifest,
    rank: int | None,
    spool: Spool,
    resources: Resources,
) -> Merging:
    """Merge what adapters do: ΔW_i = s_i·B_i·A_i, each as one product.

    Sums are exact (`merge_lora_exact`); TIES and DARE work on the elements of ΔW_i, whose diff vectors start
    at zero (`merge_sparse_products`). Ranks, scales and modules may differ: a module that an adapter leaves
    alone counts as ΔW_i = 0. The result has one rank for all modules and scale 1 (alpha = rank). Tensors that
    are no factors are weights of the base, trained whole, and are merged as those of checkpoints are: an
    adapter without one has the base's.

    Args:
        method: one of `EXACT_METHODS`.
        base: what all of them were trained on.
        rank: of the result; None for the sum of the ranks, which loses nothing of a sum.

    Raises:
        InvalidInputError: `bad-argument` for another method; `incompatible` for shapes that differ, or
            adapters that are no products; `limit-exceeded` if updates are too large for the memory there is.
    """
    if method not in EXACT_METHODS:
        raise InvalidInputError(
            f"{method} works element by element; products of adapters can only be added",
            kind=ErrorKind.BAD_ARGUMENT,
            advice=Advice.EXACT_METHODS,
            facts={"methods": ", ".join(EXACT_METHODS)},
        )
    settings = settings_for(method_named(method), options, len(models))
    tables = [adapter_table(objects, m) for m in models]
    check_products_add(tables, method)
    job = _Job(objects, method, options, settings, tables, base, rank or 0, spool)
    job = replace(job, rank=rank or max(sum(t.rank(m) for t in tables) for m in job.modules))
    merge_one = _merger(job, resources.memory_bytes)
    tensors: dict[str, Content] = {}
    for done, module in enumerate(job.modules, start=1):
        merged = merge_one(module, [t.factors(objects, module) for t in tables])
        job.lost.update({module: merged.relative_error} if merged.relative_error else {})
        tensors |= _contents(job, module, merged)
        resources.progress("merging", done, len(job.modules))
    whole = _whole_tensors(job)
    view = _assemble(job, {**tensors, **whole})
    return Merging(view, tuple(tensors), (), (), (), job.lost)


def _merger(job: _Job, memory_bytes: int) -> Callable[[str, Sequence[LoraFactors | None]], LoraMerge]:
    if job.method in SPARSE_METHODS:
        return lambda module, factors: merge_sparse_products(
            job.method, module, factors, job.settings, rank=job.rank, memory_bytes=memory_bytes
        )
    weights = _weights(job.method, job.settings, len(job.tables))

    def add(module: str, factors: Sequence[LoraFactors | None]) -> LoraMerge:
        found = [(f, w) for f, w in zip(factors, weights, strict=True) if f is not None]
        return merge_lora_exact([f for f, _ in found], [w for _, w in found], job.rank)

    return add


def _weights(method: str, settings: Settings, n_models: int) -> list[float]:
    if method == "task_arithmetic":
        return [settings.scale * w for w in settings.weights]
    weights = settings.weights or (1.0,) * n_models
    total = sum(weights)
    if not total > 0:
        raise InvalidInputError(f"the weights add up to {total}", kind=ErrorKind.BAD_ARGUMENT)
    return [w / total for w in weights]


def _contents(job: _Job, module: str, merged: LoraMerge) -> dict[str, Content]:
    """The factors of a module, named, shaped and typed as the first adapter that has it does."""
    table = next(t for t in job.tables if module in t.modules)
    keys = table.modules[module]
    a, b = (table.model.manifest.primary[k] for k in (keys.a, keys.b))
    return {
        keys.a: _spooled(job.spool, a.dtype, (merged.a.shape[0], *a.shape[1:]), merged.a),
        keys.b: _spooled(job.spool, b.dtype, (b.shape[0], merged.b.shape[1], *b.shape[2:]), merged.b),
    }


def _spooled(spool: Spool, dtype: str, shape: tuple[int, ...], values: npt.NDArray[np.float64]) -> Content:
    rounded = from_float64(np.ascontiguousarray(values).reshape(-1), dtype)
    return spool.add(dtype, shape, [rounded.data])


def _whole_tensors(job: _Job) -> dict[str, Content]:
    """Tensors outside the factors, element by element."""
    factors = {k for t in job.tables for keys in t.modules.values() for k in (keys.a, keys.b)}
    base = BaseWeights(job.objects, job.base)
    out: dict[str, Content] = {}
    for table in job.tables:
        olds = saved_weights(table.model.manifest, base)
        for key, entry in table.model.manifest.primary.items():
            if key in factors or key in out:
                continue
            if parse_key(key).part is Part.BIAS:
                out[key] = _bias_of_factors(job, key, entry)
                continue
            old = olds.get(key)
            entries = [t.entry(key) or old for t in job.tables]
            starts = [old] if method_named(job.method).needs_base else []
            out[key] = _whole_tensor(job, key, entry, [*starts, *entries])
    return out


def _bias_of_factors(job: _Job, key: str, lead: TensorEntry) -> Content:
    """What biases beside factors B add: an adapter's scale multiplies them as it does its factors."""
    weights = _weights(job.method, job.settings, len(job.tables))
    total = np.zeros(n_elements(lead.shape))
    for table, weight in zip(job.tables, weights, strict=True):
        entry = table.entry(key)
        if entry is not None and entry.shape == lead.shape:
            scale = table.modules[parse_key(key).module].scale
            total += weight * scale * read_elements(job.objects, entry, 0, n_elements(entry.shape))
    return _spooled(job.spool, lead.dtype, lead.shape, total)


def _whole_tensor(job: _Job, key: str, lead: TensorEntry, entries: Sequence[TensorEntry | None]) -> Content:
    found = tuple(e for e in entries if e is not None)
    if len(found) < len(entries) or len({e.shape for e in found}) > 1:
        raise InvalidInputError(
            f"{key} is trained whole and cannot be merged by {job.method} here",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.AVERAGE_WHOLE,
        )
    old = Content(lead.dtype, lead.shape, blob=lead.blob)
    if len({e.blob for e in found}) == 1:
        return old
    return derived_content(job.objects, job.method, key, found, old, job.options)


def _assemble(job: _Job, tensors: Mapping[str, Content]) -> View:
    """The first adapter's files with the merged tensors, those of modules that only others have included."""
    lead = view_of(job.tables[0].model.manifest)
    kept = {k: c for k, c in lead.tensors.items() if "::" in k}
    added = sorted(tensors.keys() - lead.tensors.keys())
    view = with_tensors(job.objects, lead, {**kept, **tensors})
    if added:
        view = _with_added(job.objects, lead, view, added)
    return replace_files(view, merged_adapter_files(job.objects, view, job.rank, _changes(job)))


def _with_added(objects: ObjectStore, lead: View, view: View, added: Sequence[str]) -> View:
    """The view with more tensors in its first file of weights."""
    files = list(view.files)
    at = next(i for i, f in enumerate(files) if f.keys is not None and not any("::" in k for k in f.keys))
    keys = (*(files[at].keys or ()), *added)
    old = next(f for f in lead.files if f.path == files[at].path)
    metadata = read_header(objects, old, sum(lead.tensors[k].size for k in old.keys or ())).metadata
    header, size = build_header([(k, view.tensors[k].dtype, view.tensors[k].shape) for k in keys], metadata)
    files[at] = replace(files[at], size=size, blob=None, data=header, keys=keys)
    return View(tuple(files), view.tensors)


def _changes(job: _Job) -> dict[str, Any]:
    """What the configuration must say where the adapters differ in what they train."""
    configs = [t.config for t in job.tables]
    changes: dict[str, Any] = {}
    saved = list(dict.fromkeys(m for c in configs for m in c.get("modules_to_save") or ()))
    if saved != list(configs[0].get("modules_to_save") or ()):
        changes["modules_to_save"] = saved
    if any(t.modules.keys() != job.tables[0].modules.keys() for t in job.tables):
        # Every module by its full name: a union of patterns would match modules that none of them trained.
        changes |= {"target_modules": sorted(job.modules), "exclude_modules": None}
        changes |= {"layers_to_transform": None, "layers_pattern": None}
    return changes
