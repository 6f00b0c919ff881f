"""Checkpoints that arithmetic is done with: plain weights, dequantised ones, or a refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deltavcs.adapters.foreign_loras import refuse_foreign_lora
from deltavcs.advice import Advice
from deltavcs.checkpoint.quantised import check_arithmetic, describe, quantisations_of
from deltavcs.checkpoint.view import View, view_of
from deltavcs.objects.model import Manifest
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
    """

    objects: ObjectStore
    manifests: tuple[Manifest, ...]
    dequantised: Mapping[str, str] = field(default_factory=dict)

    def stored_view(self, view: View) -> View:
        """A view that was made of them as one that the repository can store, write and load."""
        from deltavcs.checkpoint.computed_store import ComputedStore

        return self.objects.stored_view(view) if isinstance(self.objects, ComputedStore) else view


def open_operands(
    repo: Repository,
    commits: Sequence[CommitId],
    names: Sequence[str],
    *,
    dequantize: bool = False,
    advice: Advice = Advice.DEQUANTIZE,
) -> Operands:
    """Check that arithmetic on checkpoints gives weights, or dequantise those where it would not.

    Args:
        names: what to call them in messages.
        dequantize: compute with the weights that quantised checkpoints stand for.
        advice: what helps where that is not done.

    Raises:
        InvalidInputError: `quantised`, naming revision and scheme; `incompatible` for LoRA factors in another
            layout than PEFT's.
    """
    manifests = [repo.manifest(commit) for commit in commits]
    for manifest, name in zip(manifests, names, strict=True):
        refuse_foreign_lora(manifest, name)
    if not dequantize:
        for manifest, name in zip(manifests, names, strict=True):
            check_arithmetic(repo.objects, manifest, name, advice=advice)
        return Operands(repo.objects, tuple(manifests))
    if not any(quantisations_of(repo.objects, m) for m in manifests):
        return Operands(repo.objects, tuple(manifests))
    from deltavcs.checkpoint.computed_store import ComputedStore
    from deltavcs.checkpoint.dequantise import dequantise

    store, dequantised = ComputedStore(repo.objects), {}
    for position, name in enumerate(names):
        view, found = dequantise(repo.objects, view_of(manifests[position]), name)
        if found:
            manifests[position] = store.add(view)
            dequantised[name] = describe(found)
    return Operands(store, tuple(manifests), dequantised)


def dequantised_facts(verb: str, operands: Operands) -> dict[str, str]:
    """What the history keeps of dequantised inputs, as metadata of the commit."""
    if not operands.dequantised:
        return {}
    return {f"{verb}.dequantized": "; ".join(f"{n}: {s}" for n, s in operands.dequantised.items())}
