"""Merging checkpoints of the history: check what is asked, compute it, commit it with its inputs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from deltavcs.advice import Advice
from deltavcs.brief import brief
from deltavcs.checkpoint.storing import store_view
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.evaluation.bench import Bench
from deltavcs.evaluation.prompts import Prompts
from deltavcs.evaluation.subject import subject_of
from deltavcs.history.ancestors import common_base
from deltavcs.merging.adapters import check_same_factors, merge_products
from deltavcs.merging.alignment import MergeInput, Merging
from deltavcs.merging.by_statistics import merge_by_statistics
from deltavcs.merging.formulas import merge_derived
from deltavcs.merging.gathering import GatheredStatistics
from deltavcs.merging.methods import MethodInfo, method_named, settings_for
from deltavcs.merging.settings import MergeMethod
from deltavcs.merging.spool import Spool
from deltavcs.objects.model import Kind, Parent, Role
from deltavcs.oid import CommitId, is_oid
from deltavcs.repo import Repository
from deltavcs.steps.naming import name_of
from deltavcs.steps.recording import Draft, MadeAs, Recorded, recording
from deltavcs.steps.running import Running, open_probe
from deltavcs.storage import Workspace


@dataclass(frozen=True, slots=True)
class Merged:
    """A merge.

    Attributes:
        inputs: what was merged, in order.
        base: the checkpoint that diff vectors were taken from, or that all inputs were made from.
        parameters: the method's parameters as they were used.
        recorded: None after a dry run.
        merged, untouched, copied, converted, lost: see `deltavcs.merging.alignment.Merging`.
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

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class MergePlan:
    """A merge whose arguments were checked.

    Attributes:
        method: from the table of methods.
        asked: how the caller wants it.
        parameters: as they will be used.
    """

    method: MethodInfo
    asked: MergeMethod
    parameters: Mapping[str, object]
    inputs: tuple[CommitId, ...]
    models: tuple[MergeInput, ...]
    base: CommitId | None
    is_adapter: bool

    @property
    def recipe(self) -> str:
        """What is merged how, as text with full commit ids; sums are written as expressions."""
        return _recipe(self.method, self.inputs, self.base, self.parameters)


def plan_merge(repo: Repository, revisions: Sequence[str], asked: MergeMethod) -> MergePlan:
    """Check what is asked, before anything is read.

    Raises:
        NotFoundError: an unknown revision.
        InvalidInputError: `incompatible`; `base-unknown`; `bad-argument` for options.
    """
    method = method_named(asked.name)
    inputs = tuple(repo.resolve(r) for r in revisions)
    settings = settings_for(method, asked.options, len(inputs))
    kinds = {repo.commit(c).kind is Kind.ADAPTER for c in inputs}
    if len(kinds) > 1:
        raise InvalidInputError(
            "adapters and whole checkpoints cannot be merged with each other",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.FOLD_ADAPTER,
        )
    is_adapter = kinds == {True}
    _check_exact(asked, is_adapter=is_adapter)
    if asked.base is not None:
        base: CommitId | None = repo.resolve(asked.base)
    else:
        base = _common_base(repo, inputs, is_adapter=is_adapter)
    _check_base(repo, method, base, is_adapter=is_adapter, exact=asked.exact)
    models = tuple(
        MergeInput(name_of(repo, c) if is_oid(text) else text, repo.manifest(c))
        for text, c in zip(revisions, inputs, strict=True)
    )
    parameters = {p.name: getattr(settings, p.name) for p in method.parameters}
    return MergePlan(method, asked, parameters, inputs, models, base, is_adapter)


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
    """
    assert draft.name is not None
    parents = [Parent(c, Role.INPUT) for c in dict.fromkeys(plan.inputs)]
    if plan.base is not None:
        parents.append(Parent(plan.base, Role.BASE))
    measured = plan.base if not plan.is_adapter else None
    made_as = MadeAs(
        kind=Kind.ADAPTER if plan.is_adapter else Kind.MERGE,
        base=measured,
        parents=tuple(parents),
        recipe=plan.recipe,
    )
    base = repo.manifest(measured) if measured is not None else None
    against = base or plan.models[0].manifest
    with recording(repo, draft.name) as record:
        stored = store_view(
            record.transaction, computed.view, base=base, against=against, resources=repo.resources
        )
        return record.commit(stored, draft, made_as)


def merge_facts(plan: MergePlan, computed: Merging) -> dict[str, str]:
    """What the history keeps of a merge, beside its recipe."""
    facts = {f"merge.{k}": json.dumps(v) for k, v in plan.parameters.items()}
    facts["merge.method"] = plan.method.name
    if plan.asked.exact:
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
    )


def _check_exact(asked: MergeMethod, *, is_adapter: bool) -> None:
    if not (asked.exact or asked.rank is not None) or (is_adapter and asked.exact):
        return
    raise InvalidInputError(
        "exact merges adapters through their products" if asked.exact else "rank needs exact",
        kind=ErrorKind.BAD_ARGUMENT,
        advice=None if is_adapter else Advice.LEAVE_OUT_EXACT,
    )


def _common_base(repo: Repository, inputs: Sequence[CommitId], *, is_adapter: bool) -> CommitId | None:
    """The nearest checkpoint that all inputs were made from; for adapters the very one they sit on."""
    if not is_adapter:
        return common_base(repo.objects, inputs)
    bases = {repo.commit(c).parent_as(Role.BASE) for c in inputs}
    return bases.pop() if len(bases) == 1 else None


def _check_base(
    repo: Repository, method: MethodInfo, base: CommitId | None, *, is_adapter: bool, exact: bool
) -> None:
    if base is not None and repo.commit(base).kind is Kind.ADAPTER:
        raise InvalidInputError("the base is an adapter", kind=ErrorKind.INCOMPATIBLE)
    if is_adapter and ((method.needs_base and not exact) or method.statistics):
        raise InvalidInputError(
            f"{method.name} cannot merge adapters: their factors have no common starting point",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.METHODS_FOR_ADAPTERS,
        )
    if is_adapter and base is None:
        raise InvalidInputError(
            "the adapters were trained from different bases",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.NAME_BASE_OF_RESULT,
        )
    if method.needs_base and base is None:
        raise InvalidInputError(
            f"{method.name} merges diff vectors, and these checkpoints have no base in common",
            kind=ErrorKind.BASE_UNKNOWN,
            advice=Advice.NAME_BASE_OR_AVERAGE,
        )


@dataclass(frozen=True, slots=True)
class _Rows:
    """Where statistics come from."""

    tasks: Sequence[str]
    running: Running
    workspace: Workspace


def _compute(repo: Repository, plan: MergePlan, spool: Spool, rows: _Rows) -> Merging:
    objects, method, models, options = repo.objects, plan.method, plan.models, plan.asked.options
    if plan.asked.exact:
        return merge_products(
            objects, method.name, models, options,
            rank=plan.asked.rank, spool=spool, resources=repo.resources,
        )  # fmt: skip
    if plan.is_adapter:
        check_same_factors(objects, models)
    if method.statistics is not None:
        statistics = _gather(repo, plan, rows)
        return merge_by_statistics(
            objects, method, models, options, statistics, spool=spool, resources=repo.resources
        )
    base = None
    if method.needs_base and not plan.is_adapter:
        assert plan.base is not None
        base = MergeInput("the base", repo.manifest(plan.base))
    return merge_derived(objects, method.name, models, base, options, repo.resources)


def _gather(repo: Repository, plan: MergePlan, rows: _Rows) -> GatheredStatistics:
    """Run every model on its task's rows and keep its statistics."""
    kind, running, resources = plan.method.statistics, rows.running, repo.resources
    assert kind is not None
    tasks = _tasks(repo, plan, rows.tasks)
    folder = rows.workspace.folder("statistics")
    gathered = GatheredStatistics(folder, memory_bytes=resources.memory_bytes)
    total = running.samples * len(tasks)
    bench: Bench | None = None
    for position, (commit, model, task) in enumerate(zip(plan.inputs, plan.models, tasks, strict=True)):
        prompts = Prompts(repo.objects, open_probe(repo, task, running).examples)
        # One model for all: loading the next checkpoint exchanges its weights.
        bench = bench or Bench(repo.objects, prompts, device=running.devices[0], resources=resources)
        bench.ask(prompts)
        subject = subject_of(repo.objects, commit, model.name)
        gathered.gather(
            kind,
            position,
            bench.load(subject),
            model.manifest.primary,
            bench.samples(subject),
            progress=partial(_report, repo, running.samples * position, total),
        )
    return gathered


def _report(repo: Repository, before: int, total: int, done: int, _: int) -> None:
    repo.resources.progress("gathering", before + done, total)


def _tasks(repo: Repository, plan: MergePlan, tasks: Sequence[str]) -> list[str]:
    """The task whose rows each model's statistics come from."""
    if len(tasks) == 1:
        return list(tasks) * len(plan.inputs)
    if tasks and len(tasks) != len(plan.inputs):
        raise InvalidInputError(
            f"{len(tasks)} tasks for {len(plan.inputs)} models",
            kind=ErrorKind.BAD_ARGUMENT,
            advice=Advice.ONE_TASK_OR_EACH,
        )
    if tasks:
        return list(tasks)
    found = [repo.commit(c).task for c in plan.inputs]
    missing = [m.name for m, task in zip(plan.models, found, strict=True) if task is None]
    if missing:
        raise InvalidInputError(
            f"{plan.method.name} needs rows, and {missing[0]} was committed without a task",
            kind=ErrorKind.BAD_ARGUMENT,
            advice=Advice.NAME_TASK,
        )
    return [task for task in found if task is not None]


def _recipe(
    method: MethodInfo, inputs: Sequence[CommitId], base: CommitId | None, parameters: Mapping[str, object]
) -> str:
    """What was merged how, as text with full commit ids; sums are written as expressions."""
    weights = parameters.get("weights")
    factors = list(weights) if isinstance(weights, tuple) else [1.0] * len(inputs)
    if method.name == "average":
        return f"({' + '.join(inputs)}) / {len(inputs)}"
    if method.name == "weighted":
        terms = " + ".join(f"{w!r} * {c}" for w, c in zip(factors, inputs, strict=True))
        return f"({terms}) / {sum(factors)!r}"
    if method.name == "task_arithmetic" and all(w >= 0 for w in factors):
        terms = " + ".join(f"{w!r} * ({c} - {base})" for w, c in zip(factors, inputs, strict=True))
        scale = parameters["scale"]
        if isinstance(scale, float) and scale >= 0:
            return f"{base} + {scale!r} * ({terms})"
    settings = "".join(f"; {k}={json.dumps(v)}" for k, v in parameters.items())
    below = f"{base}; " if method.needs_base else ""
    return f"{method.name}({below}{', '.join(inputs)}{settings})"
