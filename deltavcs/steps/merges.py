"""Merging checkpoints of the history: check what is asked, compute it, commit it with its inputs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from deltavcs.brief import brief
from deltavcs.checkpoint.matching import match, of_manifest, of_view, respelled
from deltavcs.checkpoint.storing import store_view
from deltavcs.checkpoint.token_ids import other_tokens
from deltavcs.checkpoint.view import View
from deltavcs.merging.adapter_tables import check_same_factors
from deltavcs.merging.adapters import merge_products
from deltavcs.merging.alignment import Merging
from deltavcs.merging.counterparts import Adjusted, MergeInput
from deltavcs.merging.formulas import merge_derived
from deltavcs.merging.spool import Spool
from deltavcs.objects.model import Kind, Manifest, Parent, Role
from deltavcs.oid import CommitId
from deltavcs.repo import Repository
from deltavcs.steps.branches import Newcomer, check_branch
from deltavcs.steps.merge_plans import MergePlan
from deltavcs.steps.naming import name_of
from deltavcs.steps.operands import dequantised_facts
from deltavcs.steps.recording import Draft, MadeAs, Recorded, recording
from deltavcs.steps.running import Running
from deltavcs.storage import Workspace


@dataclass(frozen=True, slots=True)
class Merged:
    """A merge.

    Attributes:
        inputs: what was merged, in order.
        base: the checkpoint that diff vectors were taken from, or that all inputs were made from.
        init: the adapter that factors of adapters were taken as diff vectors from.
        products: adapters were merged through their products.
        parameters: the method's parameters as they were used.
        recorded: None after a dry run.
        merged, untouched, copied, converted, lost, apart, adjusted, padded: see
            `deltavcs.merging.alignment.Merging`.
        dequantised: by revision, how what was dequantised is stored.
        other_tokens: inputs whose tokenizers give the same ids to other tokens: the rows of these are merged.
    """

    method: str
    inputs: tuple[CommitId, ...]
    input_names: tuple[str, ...]
    base: CommitId | None
    base_name: str | None
    parameters: Mapping[str, object]
    recipe: str
    is_adapter: bool
    recorded: Recorded | None
    merged: tuple[str, ...] = ()
    untouched: tuple[str, ...] = ()
    copied: tuple[str, ...] = ()
    converted: tuple[str, ...] = ()
    lost: Mapping[str, float] = field(default_factory=dict)
    init: CommitId | None = None
    init_name: str | None = None
    products: bool = False
    dequantised: Mapping[str, str] = field(default_factory=dict)
    apart: tuple[str, ...] = ()
    adjusted: Adjusted = field(default_factory=Adjusted)
    padded: tuple[str, ...] = ()
    other_tokens: tuple[str, ...] = ()

    __repr__ = brief


@contextlib.contextmanager
def merging(repo: Repository, plan: MergePlan, tasks: Sequence[str], running: Running) -> Iterator[Merging]:
    """Compute a merge; it can be read inside the block.

    Args:
        tasks: rows for methods with statistics: one task for all models, one for each, or none for the task
            that each was committed with.
        running: how many rows, and where the models run.

    Raises:
        NotFoundError: an unknown task.
        InvalidInputError: `incompatible` naming tensors; `bad-argument`.
    """
    with Workspace(repo.storage) as workspace:
        spool = Spool(workspace.create("merged"))
        try:
            yield _compute(repo, plan, spool, _Rows(tasks, running, workspace))
        finally:
            spool.close()


def record_merge(repo: Repository, plan: MergePlan, computed: Merging, draft: Draft) -> Recorded:
    """Commit a merge with what it was made from.

    Args:
        draft: signed, with a name.

    Raises:
        AlreadyExistsError: `ref-exists` if the branch holds something else.
    """
    assert draft.name is not None
    parents = [Parent(c, Role.INPUT) for c in dict.fromkeys(plan.inputs)]
    if plan.base is not None:
        parents.append(Parent(plan.base, Role.BASE))
    if plan.init is not None:
        parents.append(Parent(plan.init, Role.INIT))
    measured = plan.base if not plan.is_adapter else None
    kind = Kind.ADAPTER if plan.is_adapter else Kind.MERGE
    check_branch(repo, draft, Newcomer.of_view(repo.objects, computed.view, kind))
    made_as = MadeAs(
        kind=kind,
        base=measured,
        parents=tuple(parents),
        recipe=plan.recipe,
    )
    base = _spelled_as(repo, computed.view, measured) if measured is not None else None
    against = base or repo.manifest(plan.inputs[0])
    with recording(repo, draft.name) as record:
        view = plan.operands.stored_view(computed.view)
        stored = store_view(record.transaction, view, base=base, against=against, resources=repo.resources)
        return record.commit(stored, draft, made_as)


def _spelled_as(repo: Repository, view: View, base: CommitId) -> Manifest:
    """A base under the names of a merge."""
    manifest = repo.manifest(base)
    found = match(of_view(repo.objects, view), of_manifest(repo.objects, manifest))
    return respelled(manifest, found)


def merge_facts(plan: MergePlan, computed: Merging) -> dict[str, str]:
    """What the history keeps of a merge, beside its recipe."""
    facts = {f"merge.{k}": json.dumps(v) for k, v in plan.parameters.items()}
    facts["merge.method"] = plan.method.name
    facts |= dequantised_facts("merge", plan.operands)
    if plan.products:
        facts["merge.exact"] = "true"
        facts["merge.lost"] = repr(max(computed.lost.values(), default=0.0))
    return facts


def describe_merge(repo: Repository, plan: MergePlan, computed: Merging, recorded: Recorded | None) -> Merged:
    """What became of a merge."""
    return Merged(
        method=plan.method.name,
        inputs=plan.inputs,
        input_names=tuple(name_of(repo, c) for c in plan.inputs),
        base=plan.base,
        base_name=name_of(repo, plan.base) if plan.base is not None else None,
        parameters=plan.parameters,
        recipe=plan.recipe,
        is_adapter=plan.is_adapter,
        recorded=recorded,
        merged=computed.merged,
        untouched=computed.untouched,
        copied=computed.copied,
        converted=computed.converted,
        lost=computed.lost,
        init=plan.init,
        init_name=name_of(repo, plan.init) if plan.init is not None else None,
        products=plan.products,
        dequantised=plan.operands.dequantised,
        apart=computed.apart,
        adjusted=computed.adjusted,
        padded=computed.padded,
        other_tokens=other_tokens(plan.operands.objects, [(m.name, m.manifest) for m in plan.models]),
    )


@dataclass(frozen=True, slots=True)
class _Rows:
    """Where statistics come from."""

    tasks: Sequence[str]
    running: Running
    workspace: Workspace


def _compute(repo: Repository, plan: MergePlan, spool: Spool, rows: _Rows) -> Merging:
    objects, method, models, options = plan.operands.objects, plan.method, plan.models, plan.asked.options
    if plan.products:
        assert plan.base is not None
        return merge_products(
            objects, method.name, models, options,
            base=repo.manifest(plan.base), rank=plan.asked.rank, spool=spool, resources=repo.resources,
        )  # fmt: skip
    init = None
    if plan.init is not None:
        init = MergeInput("the initial adapter", repo.manifest(plan.init))
    if plan.is_adapter:
        check_same_factors(objects, [*models, *([init] if init else [])])
    if method.statistics is not None:
        # What runs models is loaded only where models are run.
        from deltavcs.merging.by_statistics import check_alike, merge_by_statistics
        from deltavcs.steps.merge_statistics import gather_statistics

        check_alike(objects, method, models)
        folder = rows.workspace.folder("statistics")
        statistics = gather_statistics(repo, plan, rows.tasks, rows.running, folder)
        return merge_by_statistics(
            objects, method, models, options, statistics, spool=spool, resources=repo.resources
        )
    base = init
    if method.needs_base and not plan.is_adapter:
        assert plan.base is not None
        base = MergeInput("the base", plan.operands.manifests[-1])
    return merge_derived(objects, method.name, models, base, options, spool=spool, resources=repo.resources)
