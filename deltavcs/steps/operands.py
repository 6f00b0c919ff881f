"""Checkpoints that arithmetic is done with: plain weights, dequantised ones, or a refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deltavcs.adapters.foreign_loras import refuse_foreign_lora
from deltavcs.checkpoint.quantised import Purpose, check_arithmetic, describe, quantisations_of
from deltavcs.checkpoint.view import View, view_of
from deltavcs.objects.model import Kind, Manifest, Role
from deltavcs.objects.store import ObjectStore
from deltavcs.oid import CommitId
from deltavcs.repo import Repository


@dataclass(frozen=True, slots=True)
class Operands:
    """Checkpoints to compute with.

    Attributes:
        objects: reads their tensors.
        manifests: in order.
        dequantised: by revision, how those that were dequantised are stored, such as `block-scaled fp8`.
        dtypes: of the first one's computed weights, by key: what results are rounded to.
    """

    objects: ObjectStore
    manifests: tuple[Manifest, ...]
    dequantised: Mapping[str, str] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)

    def stored_view(self, view: View) -> View:
        """A view that was made of them as one that the repository can store, write and load."""
        from deltavcs.checkpoint.computed_store import ComputedStore

        if not isinstance(self.objects, ComputedStore):
            return view
        return self.objects.stored_view(view, self.dtypes)


def open_operands(
    repo: Repository,
    commits: Sequence[CommitId],
    names: Sequence[str],
    *,
    dequantize: bool = False,
    fold: bool = False,
    purpose: Purpose = Purpose.COMPUTE,
) -> Operands:
    """Check that arithmetic on checkpoints gives weights, or dequantise those where it would not.

    Args:
        names: what to call them in messages.
        dequantize: compute with the weights that quantised checkpoints stand for.
        fold: compute with the base and an adapter folded into it where an adapter is named, rounded once.
        purpose: decides what would help where a quantised checkpoint is not dequantised.

    Raises:
        InvalidInputError: `quantised`, naming revision and scheme; `incompatible` for an adapter that cannot
            be folded, and for LoRA factors in another layout than PEFT's.
    """
    manifests = [repo.manifest(commit) for commit in commits]
    for manifest, name in zip(manifests, names, strict=True):
        refuse_foreign_lora(manifest, name)
    adapters = [i for i, c in enumerate(commits) if fold and repo.commit(c).kind is Kind.ADAPTER]
    if adapters:
        return _with_folded(repo, commits, names, adapters)
    if not dequantize:
        for manifest, name in zip(manifests, names, strict=True):
            check_arithmetic(repo.objects, manifest, name, purpose)
        return Operands(repo.objects, tuple(manifests))
    if not any(quantisations_of(repo.objects, m) for m in manifests):
        return Operands(repo.objects, tuple(manifests))
    from deltavcs.checkpoint.computed_store import ComputedStore
    from deltavcs.checkpoint.dequantise import dequantise

    store = ComputedStore(repo.objects)
    dequantised: dict[str, str] = {}
    dtypes: dict[str, str] = {}
    for position, name in enumerate(names):
        view, found = dequantise(repo.objects, view_of(manifests[position]), name)
        if found:
            manifests[position] = store.add(view)
            if position == 0:
                dtypes = _computed_dtypes(view)
            dequantised[name] = describe(found)
    return Operands(store, tuple(manifests), dequantised, dtypes)


def _with_folded(
    repo: Repository, commits: Sequence[CommitId], names: Sequence[str], adapters: Sequence[int]
) -> Operands:
    """The checkpoints, those at some positions the base with an adapter folded in."""
    from deltavcs.adapters.folding import fold_adapter
    from deltavcs.checkpoint.computed_store import ComputedStore

    store = ComputedStore(repo.objects)
    manifests = [repo.manifest(commit) for commit in commits]
    dtypes: dict[str, str] = {}
    for position, name in enumerate(names):
        purpose, manifest = Purpose.RUN, manifests[position]
        if position in adapters:
            below = repo.commit(commits[position]).parent_as(Role.BASE)
            purpose = Purpose.FOLD
            manifest = repo.manifest(below) if below is not None else manifest
            view = fold_adapter(repo.objects, manifests[position], manifest)
            manifests[position] = store.add(view)
            if position == 0:
                dtypes = _computed_dtypes(view)
        check_arithmetic(repo.objects, manifest, name, purpose)
    return Operands(store, tuple(manifests), {}, dtypes)


def _computed_dtypes(view: View) -> dict[str, str]:
    return {k: c.dtype for k, c in view.tensors.items() if c.computed is not None}


def dequantised_facts(verb: str, operands: Operands) -> dict[str, str]:
    """What the history keeps of dequantised inputs, as metadata of the commit."""
    if not operands.dequantised:
        return {}
    return {f"{verb}.dequantized": "; ".join(f"{n}: {s}" for n, s in operands.dequantised.items())}
