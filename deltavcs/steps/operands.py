"""Checkpoints that arithmetic is done with: plain weights, dequantised ones, or a refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deltavcs.checkpoint.quantised import Purpose, check_arithmetic, describe, quantisations_of
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
        dtypes: of the first one's dequantised weights, by key: what results are rounded to.
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
    purpose: Purpose = Purpose.COMPUTE,
) -> Operands:
    """Check that arithmetic on checkpoints gives weights, or dequantise those where it would not.

    Args:
        names: what to call them in messages.
        dequantize: compute with the weights that quantised checkpoints stand for.
        purpose: decides what would help where that is not done.

    Raises:
        InvalidInputError: `quantised`, naming revision and scheme.
    """
    manifests = [repo.manifest(commit) for commit in commits]
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
                dtypes = {k: c.dtype for k, c in view.tensors.items() if c.computed is not None}
            dequantised[name] = describe(found)
    return Operands(store, tuple(manifests), dequantised, dtypes)


def dequantised_facts(verb: str, operands: Operands) -> dict[str, str]:
    """What the history keeps of dequantised inputs, as metadata of the commit."""
    if not operands.dequantised:
        return {}
    return {f"{verb}.dequantized": "; ".join(f"{n}: {s}" for n, s in operands.dequantised.items())}
