"""Carrying an adapter over to another base: a commit of the same factors, or the base with them folded in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from deltavcs.adapters.carried_adapter import CarriedAdapter, carry_adapter, open_carried
from deltavcs.adapters.carried_fold import fold_carried
from deltavcs.adapters.carried_geometry import carried_geometry
from deltavcs.advice import Advice
from deltavcs.checkpoint.geometry import Geometry
from deltavcs.checkpoint.quantised import Purpose, check_arithmetic
from deltavcs.checkpoint.storing import store_view
from deltavcs.checkpoint.view import View
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.combination import Compatibility
from deltavcs.objects.model import Kind, Parent, Role
from deltavcs.oid import CommitId
from deltavcs.repo import Repository
from deltavcs.steps.carrying import Carrying
from deltavcs.steps.naming import name_of
from deltavcs.steps.recording import Draft, MadeAs, Recorded, recording


@dataclass(frozen=True, slots=True)
class AdapterTransferPlan:
    """An adapter and the base that gets it.

    Attributes:
        delta: the adapter.
        source: what it was trained on, m_s.
        target: m_t.
        scale: λ.
        folded: the result is the base with the adapter in it, not an adapter.
        view: the result.
    """

    delta: CommitId
    source: CommitId
    target: CommitId
    scale: float
    folded: bool
    carried: CarriedAdapter
    view: View

    @property
    def recipe(self) -> str:
        """The sum with full commit ids; an adapter stands for its base with it folded in."""
        return f"{self.target} + {self.scale!r} * ({self.delta} - {self.source})"

    @property
    def compatibility(self) -> Compatibility:
        """Which weights of the target the adapter changes."""
        carried = self.carried
        match = carried.match
        changed = (*match.factors, *match.biases, *match.whole, *match.untied, *match.tokens)
        return Compatibility(
            matched=tuple(dict.fromkeys(changed)),
            padded=tuple(carried.padded),
            missing=(),
            extra=(),
            renamed=(),
            converted=(),
            copied=tuple(carried.new),
        )


def plan_adapter_transfer(
    repo: Repository, delta: CommitId, target: CommitId, *, scale: float, carrying: Carrying
) -> AdapterTransferPlan:
    """Fit an adapter to another base than its own.

    Raises:
        InvalidInputError: `incompatible` naming modules; for what is no sum with its base; with `strict`, for
            vocabularies of other sizes. `quantised` if weights of a quantised base are needed.
    """
    source = repo.commit(delta).parent_as(Role.BASE)
    assert source is not None
    adapter, old, new = (repo.manifest(c) for c in (delta, source, target))
    carried = open_carried(repo.objects, name_of(repo, delta), adapter, old, new)
    if carrying.fold or carried.whole or carried.tokens or carried.copies:
        for commit, manifest in ((source, old), (target, new)):
            check_arithmetic(repo.objects, manifest, name_of(repo, commit), Purpose.RUN)
    if carrying.fold:
        view = fold_carried(repo.objects, carried, scale=scale)
    else:
        name, revision = _outside_name(repo, target)
        view = carry_adapter(repo.objects, carried, scale=scale, base_name=name, revision=revision)
    _check_vocabulary(carried, carrying)
    return AdapterTransferPlan(delta, source, target, scale, carrying.fold, carried, view)


def _check_vocabulary(carried: CarriedAdapter, carrying: Carrying) -> None:
    grown = [
        f"{key} {list(w.saved.shape)} / {list(w.target.shape)}"
        for key, w in carried.whole.items()
        if w.target is not None and w.target.shape != w.saved.shape
    ]
    if grown and carrying.vocab == "strict":
        raise InvalidInputError(
            f"the vocabularies differ: {'; '.join(grown)}",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.COMPARE_ROWS,
        )


def _outside_name(repo: Repository, base: CommitId) -> tuple[str | None, str | None]:
    """What a base is called outside of the repository, for PEFT to find it by: on the Hub, or a directory."""
    source = repo.commit(base).source
    hub, path = source.get("hub"), source.get("path")
    if isinstance(hub, str):
        revision = source.get("revision")
        return hub, revision if isinstance(revision, str) else None
    return (path, None) if isinstance(path, str) else (None, None)


def measure_adapter(repo: Repository, delta: CommitId, target: CommitId) -> dict[str, Geometry]:
    """The same as `measure_adapter_transfer` of an adapter that need not be carried over; λ = 1."""
    source = repo.commit(delta).parent_as(Role.BASE)
    assert source is not None
    manifests = [repo.manifest(c) for c in (delta, source, target)]
    carried = open_carried(repo.objects, name_of(repo, delta), *manifests)
    return carried_geometry(repo.objects, carried, repo.resources)


def measure_adapter_transfer(repo: Repository, plan: AdapterTransferPlan) -> dict[str, Geometry]:
    """How the two bases and the adapter's products lie, by group of tensors and in all (`all`)."""
    return carried_geometry(repo.objects, plan.carried, repo.resources)


def record_adapter_transfer(
    repo: Repository, plan: AdapterTransferPlan, draft: Draft, facts: Mapping[str, str]
) -> Recorded:
    """Commit an adapter for its new base, or that base with the adapter folded in.

    Args:
        draft: signed, with a name; the task is the adapter's.
        facts: figures, kept as metadata.
    """
    name = draft.name
    assert name is not None
    made_as = MadeAs(
        kind=Kind.TRANSFER if plan.folded else Kind.ADAPTER,
        base=plan.target,
        parents=(
            Parent(plan.target, Role.BASE),
            Parent(plan.delta, Role.DELTA),
            Parent(plan.source, Role.SOURCE),
        ),
        recipe=plan.recipe,
    )
    kept = {**facts, **({"transfer.folded": "true"} if plan.folded else {}), **draft.metadata}
    draft = replace(draft, task=repo.commit(plan.delta).task, metadata=kept)
    with recording(repo, name) as record:
        stored = store_view(
            record.transaction,
            plan.view,
            base=repo.manifest(plan.target) if plan.folded else None,
            against=None if plan.folded else repo.manifest(plan.delta),
            resources=repo.resources,
        )
        return record.commit(stored, draft, made_as)
