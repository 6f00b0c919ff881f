"""`dvx merge`: one checkpoint out of several, committed with what it was made from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from deltavcs.checkpoint.storing import store_view
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.adapters import check_same_factors, merge_products
from deltavcs.merging.alignment import MergeInput, Merging
from deltavcs.merging.by_statistics import merge_by_statistics
from deltavcs.merging.formulas import merge_derived
from deltavcs.merging.gathering import GatheredStatistics
from deltavcs.merging.methods import MethodInfo, method_named, settings_for
from deltavcs.merging.settings import Options
from deltavcs.merging.spool import Spool
from deltavcs.objects.model import Commit, Kind, Parent, Role
from deltavcs.oid import CommitId, is_oid
from deltavcs.ranking.candidates import common_base
from deltavcs.refs import check_name
from deltavcs.repo import Repository
from deltavcs.resources import Resources
from deltavcs.signature import Signature
from deltavcs.steps.naming import name_of
from deltavcs.steps.recording import EMPTY, Recorded, record
from deltavcs.steps.running import Bench, Prompts, open_probe, subject_of
from deltavcs.storage import Workspace
from deltavcs.tasks.definition import DEFAULT_SAMPLES
from deltavcs.tasks.hub_rows import HubOptions


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which rows statistics are gathered from, and where the model runs.

    Attributes:
        tasks: one task for all models, or one for each; none for the task that each was committed with.
        samples: rows per model.
        seed: draws them.
        hub: how to reach the Hub.
    """

    tasks: tuple[str, ...] = ()
    samples: int = DEFAULT_SAMPLES
    seed: int = 0
    device: str = "cpu"
    hub: HubOptions | None = None


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


@dataclass(frozen=True, slots=True)
class _Request:
    """A merge whose arguments were checked."""

    method: MethodInfo
    options: Options
    parameters: Mapping[str, object]
    inputs: tuple[CommitId, ...]
    models: tuple[MergeInput, ...]
    base: CommitId | None
    exact: bool
    rank: int | None
    is_adapter: bool


def merge(
    repo: Repository,
    revisions: Sequence[str],
    *,
    name: str,
    method: str = "average",
    options: Options | None = None,
    base: str | None = None,
    exact: bool = False,
    rank: int | None = None,
    sampling: Sampling | None = None,
    message: str = "",
    metadata: Mapping[str, str] | None = None,
    dry_run: bool = False,
    signature: Signature,
    resources: Resources | None = None,
) -> Merged:
    """Merge checkpoints, or LoRA adapters, and commit the result.

    Configuration and tokenizer come from the first. Methods with a formula are stored as one, in kilobytes;
    Fisher and RegMean as deltas against the base.

    Args:
        name: branch to commit to.
        method: a key of `deltavcs.merging.methods.METHODS`.
        options: the method's parameters by name, such as `weights`, `density`, `scale`, `seed`.
        base: checkpoint that diff vectors are taken from; by default the nearest that all were made from.
        exact: merge adapters through their products instead of factor by factor.
        rank: with `exact`, rank of the result; None for the sum of the ranks, which loses nothing.
        sampling: rows for `fisher` and `regmean`.
        dry_run: plan only.

    Raises:
        NotFoundError: an unknown revision or task.
        InvalidInputError: `incompatible` naming tensors; `base-unknown`; `bad-argument` for options.
    """
    resources = resources or Resources()
    branch = check_name(name)
    request = _check(repo, revisions, method, options or {}, base, exact=exact, rank=rank)
    with Workspace(repo.storage) as workspace:
        spool = Spool(workspace.create("merged"))
        try:
            merging = _run(repo, request, spool, sampling or Sampling(), workspace, resources)
            recorded = None
            if not dry_run:
                draft = _draft(request, merging, message, metadata or {}, signature)
                recorded = _record(repo, branch, draft, request, merging, signature, resources)
        finally:
            spool.close()
    return _result(repo, request, merging, recorded)


def _check(
    repo: Repository,
    revisions: Sequence[str],
    method: str,
    options: Options,
    base: str | None,
    *,
    exact: bool,
    rank: int | None,
) -> _Request:
    chosen = method_named(method)
    inputs = tuple(repo.resolve(r) for r in revisions)
    settings = settings_for(chosen, options, len(inputs))
    kinds = {repo.commit(c).kind is Kind.ADAPTER for c in inputs}
    if len(kinds) > 1:
        raise InvalidInputError(
            "adapters and whole checkpoints cannot be merged with each other",
            kind=ErrorKind.INCOMPATIBLE,
            hint="Fold the adapter in and commit the result: dvx checkout REV --merge-adapter -o DIR.",
        )
    is_adapter = kinds == {True}
    if (exact or rank is not None) and not (is_adapter and exact):
        raise InvalidInputError(
            "--exact merges adapters through their products" if exact else "--rank needs --exact",
            kind=ErrorKind.BAD_ARGUMENT,
            hint=None if is_adapter else "These are whole checkpoints; leave it out.",
        )
    found = repo.resolve(base) if base is not None else _common_base(repo, inputs, is_adapter=is_adapter)
    _check_base(repo, chosen, found, inputs, is_adapter=is_adapter, exact=exact)
    models = tuple(
        MergeInput(name_of(repo, c) if is_oid(text) else text, repo.manifest(c))
        for text, c in zip(revisions, inputs, strict=True)
    )
    parameters = {p.name: getattr(settings, p.name) for p in chosen.parameters}
    return _Request(chosen, options, parameters, inputs, models, found, exact, rank, is_adapter)


def _common_base(repo: Repository, inputs: Sequence[CommitId], *, is_adapter: bool) -> CommitId | None:
    """The nearest checkpoint that all inputs were made from; for adapters the very one they sit on."""
    if not is_adapter:
        return common_base(repo.objects, inputs)
    bases = {repo.commit(c).parent_as(Role.BASE) for c in inputs}
    return bases.pop() if len(bases) == 1 else None


def _check_base(
    repo: Repository,
    method: MethodInfo,
    base: CommitId | None,
    inputs: Sequence[CommitId],
    *,
    is_adapter: bool,
    exact: bool,
) -> None:
    if base is not None and repo.commit(base).kind is Kind.ADAPTER:
        raise InvalidInputError("the base is an adapter", kind=ErrorKind.INCOMPATIBLE)
    if is_adapter and ((method.needs_base and not exact) or method.statistics):
        raise InvalidInputError(
            f"{method.name} cannot merge adapters: their factors have no common starting point",
            kind=ErrorKind.INCOMPATIBLE,
            hint="Use average, weighted or slerp; or --exact with average, weighted or task_arithmetic.",
        )
    if is_adapter and base is None:
        raise InvalidInputError(
            "the adapters were trained from different bases",
            kind=ErrorKind.INCOMPATIBLE,
            hint="Name the base that the result is for with --base REV, if they do fit it.",
        )
    if method.needs_base and base is None:
        raise InvalidInputError(
            f"{method.name} merges diff vectors, and these checkpoints have no base in common",
            kind=ErrorKind.BASE_UNKNOWN,
            hint="Name one with --base REV, or use average, weighted or slerp.",
        )


def _run(
    repo: Repository,
    request: _Request,
    spool: Spool,
    sampling: Sampling,
    workspace: Workspace,
    resources: Resources,
) -> Merging:
    objects, method, models = repo.objects, request.method, request.models
    if request.exact:
        return merge_products(
            objects, method.name, models, request.options, rank=request.rank, spool=spool, resources=resources
        )
    if request.is_adapter:
        check_same_factors(objects, models)
    if method.statistics is not None:
        statistics = _gather(repo, request, sampling, workspace, resources)
        return merge_by_statistics(
            objects, method, models, request.options, statistics, spool=spool, resources=resources
        )
    base = None
    if method.needs_base and not request.is_adapter:
        assert request.base is not None
        base = MergeInput("the base", repo.manifest(request.base))
    return merge_derived(objects, method.name, models, base, request.options, resources)


def _gather(
    repo: Repository, request: _Request, sampling: Sampling, workspace: Workspace, resources: Resources
) -> GatheredStatistics:
    """Run every model on its task's rows and keep its statistics."""
    assert request.method.statistics is not None
    tasks = _tasks(repo, request, sampling)
    gathered = GatheredStatistics(workspace.folder("statistics"), memory_bytes=resources.memory_bytes)
    total = sampling.samples * len(tasks)
    bench: Bench | None = None
    for position, (commit, model, task) in enumerate(zip(request.inputs, request.models, tasks, strict=True)):
        probe = open_probe(repo, task, samples=sampling.samples, seed=sampling.seed, hub=sampling.hub)
        prompts = Prompts(repo, probe.examples)
        # One model for all: loading the next checkpoint exchanges its weights.
        bench = bench or Bench(repo, prompts, device=sampling.device, resources=resources)
        bench.ask(prompts)
        subject = subject_of(repo, commit, model.name)
        before = sampling.samples * position
        gathered.gather(
            request.method.statistics,
            position,
            bench.load(subject),
            model.manifest.primary,
            bench.samples(subject),
            progress=partial(_report, resources, before, total),
        )
    return gathered


def _report(resources: Resources, before: int, total: int, done: int, _: int) -> None:
    resources.progress("gathering", before + done, total)


def _tasks(repo: Repository, request: _Request, sampling: Sampling) -> list[str]:
    """The task whose rows each model's statistics come from."""
    if len(sampling.tasks) == 1:
        return list(sampling.tasks) * len(request.inputs)
    if sampling.tasks and len(sampling.tasks) != len(request.inputs):
        raise InvalidInputError(
            f"{len(sampling.tasks)} tasks for {len(request.inputs)} models",
            kind=ErrorKind.BAD_ARGUMENT,
            hint="Name one task, or one for each model in order.",
        )
    if sampling.tasks:
        return list(sampling.tasks)
    found = [repo.commit(c).task for c in request.inputs]
    missing = [m.name for m, task in zip(request.models, found, strict=True) if task is None]
    if missing:
        raise InvalidInputError(
            f"{request.method.name} needs rows, and {missing[0]} was committed without a task",
            kind=ErrorKind.BAD_ARGUMENT,
            hint="Name a task with --task, once or once for each model.",
        )
    return [task for task in found if task is not None]


def _draft(
    request: _Request, merging: Merging, message: str, metadata: Mapping[str, str], signature: Signature
) -> Commit:
    parents = [Parent(c, Role.INPUT) for c in dict.fromkeys(request.inputs)]
    if request.base is not None:
        parents.append(Parent(request.base, Role.BASE))
    facts = {f"merge.{k}": json.dumps(v) for k, v in request.parameters.items()}
    facts["merge.method"] = request.method.name
    if request.exact:
        facts["merge.exact"] = "true"
        facts["merge.lost"] = repr(max(merging.lost.values(), default=0.0))
    return Commit(
        kind=Kind.ADAPTER if request.is_adapter else Kind.MERGE,
        manifest=EMPTY,
        parents=tuple(parents),
        message=message,
        author=signature.author,
        time=signature.time,
        recipe=recipe(request.method, request.inputs, request.base, request.parameters),
        metadata={**facts, **metadata},
    )


def _record(
    repo: Repository,
    branch: str,
    draft: Commit,
    request: _Request,
    merging: Merging,
    signature: Signature,
    resources: Resources,
) -> Recorded:
    whole = request.base is not None and not request.is_adapter
    base = repo.manifest(request.base) if request.base is not None and whole else None
    against = base or request.models[0].manifest
    return record(
        repo,
        branch,
        draft,
        lambda tx: store_view(tx, merging.view, base=base, against=against, resources=resources),
        base=request.base if whole else None,
        signature=signature,
        resources=resources,
    )


def recipe(
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


def _result(repo: Repository, request: _Request, merging: Merging, recorded: Recorded | None) -> Merged:
    return Merged(
        method=request.method.name,
        inputs=request.inputs,
        input_names=tuple(name_of(repo, c) for c in request.inputs),
        base=request.base,
        base_name=name_of(repo, request.base) if request.base is not None else None,
        parameters=request.parameters,
        recipe=recipe(request.method, request.inputs, request.base, request.parameters),
        is_adapter=request.is_adapter,
        recorded=recorded,
        merged=merging.merged,
        untouched=merging.untouched,
        copied=merging.copied,
        converted=merging.converted,
        lost=merging.lost,
    )
