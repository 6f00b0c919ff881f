"""`dvx transfer`: recycle a fine-tune's diff vector onto another base (Lin et al.).

m_t + λ·Δ_s with Δ_s = m'_s − m_s; *recycling* when t is newer than s, *backporting* when older.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from deltavcs.checkpoint.geometry import Geometry, geometry
from deltavcs.checkpoint.storing import store_view
from deltavcs.errors import ErrorKind, InvalidInputError, NotFoundError
from deltavcs.index.queries import children_of
from deltavcs.merging.combination import Combination, Compatibility, combine
from deltavcs.merging.expression import transfer_program
from deltavcs.objects.model import Commit, Kind, Parent, Role
from deltavcs.oid import CommitId
from deltavcs.porcelain.connectivity import Segment, connectivity
from deltavcs.porcelain.rank import Running
from deltavcs.refs import check_name
from deltavcs.repo import Repository
from deltavcs.resources import Resources
from deltavcs.signature import Signature
from deltavcs.steps.naming import name_of
from deltavcs.steps.recording import EMPTY, Recorded, record

_FINETUNED = (Kind.FINETUNE, Kind.MERGE, Kind.TRANSFER)


@dataclass(frozen=True, slots=True)
class Transferred:
    """One diff vector on its new base, and how well the two fit.

    Attributes:
        delta, source, target: the fine-tune, its base, and the new base.
        recorded: None after a dry run.
        geometry: distances by group of tensors and in all (`all`).
        backport: True if the target base is older than the source.
        connectivity: loss between source and target base, if a task to probe with was given.
    """

    delta: str
    source: str
    target: str
    name: str
    scale: float
    recipe: str
    backport: bool
    compatibility: Compatibility
    geometry: Mapping[str, Geometry]
    recorded: Recorded | None
    connectivity: Segment | None = None


def transfer(
    repo: Repository,
    *,
    from_: str,
    to: str,
    deltas: Sequence[str] = (),
    every: bool = False,
    scale: float = 1.0,
    name: str | None = None,
    vocab: str = "pad",
    dry_run: bool = False,
    probe_task: str | None = None,
    probing: Running | None = None,
    message: str = "",
    signature: Signature,
    resources: Resources | None = None,
) -> list[Transferred]:
    """Commit `to + scale · (fine-tune − its base)` for one or more fine-tunes.

    Args:
        from_: a base, whose single fine-tune is taken, or a fine-tune.
        to: the target base.
        deltas: which fine-tunes of the base to take.
        every: take all of them.
        name: branch for the result; by default `TO+DELTA`. Only with one fine-tune.
        probe_task: evaluate this task along the segment from the source to the target base: transfer works
            where no barrier lies between them. Needs torch and time.
        probing: how the model runs there.
        vocab: `pad` counts rows that a base lacks as zeros; `strict` refuses them.

    Raises:
        InvalidInputError: `ambiguous-delta` with the choices; `incompatible` with the tensors.
        NotFoundError: an unknown revision, or a base without fine-tune.
    """
    resources = resources or Resources()
    if not math.isfinite(scale):
        raise InvalidInputError(f"scale {scale} is not a finite number", kind=ErrorKind.BAD_ARGUMENT)
    target, target_name = repo.resolve(to), to
    chosen = _choose(repo, from_, deltas, every=every)
    if name is not None and len(chosen) > 1:
        raise InvalidInputError(
            f"--as {name} names one result, but {len(chosen)} fine-tunes are transferred",
            kind=ErrorKind.BAD_ARGUMENT,
            hint="Leave --as out; the results are called TO+DELTA.",
        )
    _check_base(repo, target, to)
    plans = [_plan(repo, target, delta, scale, vocab) for delta in chosen]
    names = [
        check_name(f"{_branch(repo, target, target_name)}+{_branch(repo, p.delta)}" if name is None else name)
        for p in plans
    ]
    done = []
    for plan, branch in zip(plans, names, strict=True):
        numbers = geometry(repo.objects, plan.combination.triples, resources)
        recorded = None
        if not dry_run:
            recorded = _record(repo, plan, branch, target, scale, message, signature, resources, numbers)
        result = _result(repo, plan, branch, target, scale, numbers, recorded)
        if probe_task is not None:
            curve = connectivity(repo, plan.source, target, probe_task, running=probing, resources=resources)
            result = replace(result, connectivity=curve)
        done.append(result)
    return done


@dataclass(frozen=True, slots=True)
class _Plan:
    delta: CommitId
    source: CommitId
    combination: Combination
    recipe: str


def _choose(repo: Repository, from_: str, deltas: Sequence[str], *, every: bool) -> list[CommitId]:
    start = repo.resolve(from_)
    if repo.commit(start).kind is Kind.ADAPTER:
        raise InvalidInputError(
            f"{from_} is an adapter: its factors fit another base only by name, there is no diff to add",
            kind=ErrorKind.INCOMPATIBLE,
            hint=f"Fold it in and commit the result: dvx checkout {from_} --merge-adapter -o DIR",
        )
    if deltas:
        return [_delta_of(repo, d, start, from_) for d in dict.fromkeys(deltas)]
    if repo.commit(start).kind is not Kind.BASE:
        return [start]
    found = finetunes_of(repo, start)
    if not found:
        raise NotFoundError(
            f"{from_} has no fine-tune whose diff vector could be transferred",
            kind=ErrorKind.UNKNOWN_REVISION,
            hint=f"Commit one first: dvx commit DIR --base {from_}",
        )
    if len(found) > 1 and not every:
        choices = ", ".join(name_of(repo, c) for c in found)
        raise InvalidInputError(
            f"{from_} has {len(found)} fine-tunes: {choices}",
            kind=ErrorKind.AMBIGUOUS_DELTA,
            hint="Choose with --delta NAME (repeatable), or take all of them with --all.",
        )
    return found


def _delta_of(repo: Repository, delta: str, base: CommitId, from_: str) -> CommitId:
    """A fine-tune that was named, which must be one of the base that was."""
    found = repo.resolve(delta)
    source = repo.commit(found).parent_as(Role.BASE)
    if base not in (found, source):
        of = f"a fine-tune of {name_of(repo, source)}" if source is not None else "no fine-tune"
        raise InvalidInputError(
            f"{delta} is {of}, not of {from_}",
            kind=ErrorKind.INCOMPATIBLE,
            hint=f"Its diff vector is from its own base: dvx transfer --from {delta} --to BASE",
        )
    return found


def finetunes_of(repo: Repository, base: CommitId) -> list[CommitId]:
    """Fine-tunes of a base: of each run only its last checkpoint."""
    edges = [e for e in children_of(repo.index, base) if e.role == Role.BASE and e.kind == Kind.FINETUNE]
    children = [CommitId(e.child) for e in edges]
    superseded = {p for c in children for p in repo.commit(c).parents_as(Role.PREVIOUS)}
    return [c for c in children if c not in superseded]


def _check_base(repo: Repository, target: CommitId, to: str) -> None:
    if repo.commit(target).kind is Kind.ADAPTER:
        raise InvalidInputError(f"{to} is an adapter, not a base", kind=ErrorKind.INCOMPATIBLE)


def _plan(repo: Repository, target: CommitId, delta: CommitId, scale: float, vocab: str) -> _Plan:
    value = repo.commit(delta)
    source = value.parent_as(Role.BASE)
    if source is None or value.kind not in _FINETUNED:
        raise InvalidInputError(
            f"{name_of(repo, delta)} is a {value.kind}; only a fine-tune has a diff vector",
            kind=ErrorKind.INCOMPATIBLE,
            hint="Name a fine-tune, or commit one with 'dvx commit DIR --base NAME'.",
        )
    program = transfer_program(scale)
    manifests = [repo.manifest(c) for c in (target, delta, source)]
    combination = combine(repo.objects, program, manifests, is_transfer=True, vocab=vocab)
    return _Plan(delta, source, combination, f"{target} + {scale!r} * ({delta} - {source})")


def _record(
    repo: Repository,
    plan: _Plan,
    branch: str,
    target: CommitId,
    scale: float,
    message: str,
    signature: Signature,
    resources: Resources,
    numbers: Mapping[str, Geometry],
) -> Recorded:
    whole = numbers["all"]
    figures = {
        "scale": scale,
        "cosine": whole.cosine,
        "relative-drift": whole.relative_drift,
        "delta-l2": whole.delta,
    }
    draft = Commit(
        kind=Kind.TRANSFER,
        manifest=EMPTY,
        parents=(Parent(target, Role.BASE), Parent(plan.delta, Role.DELTA), Parent(plan.source, Role.SOURCE)),
        message=message,
        author=signature.author,
        time=signature.time,
        task=repo.commit(plan.delta).task,
        recipe=plan.recipe,
        metadata={f"transfer.{k}": f"{v:.6g}" for k, v in figures.items() if v is not None},
    )
    manifest = repo.manifest(target)
    view = plan.combination.view
    return record(
        repo,
        branch,
        draft,
        lambda tx: store_view(tx, view, base=manifest, resources=resources),
        base=target,
        signature=signature,
        resources=resources,
    )


def _result(
    repo: Repository,
    plan: _Plan,
    branch: str,
    target: CommitId,
    scale: float,
    numbers: Mapping[str, Geometry],
    recorded: Recorded | None,
) -> Transferred:
    return Transferred(
        delta=name_of(repo, plan.delta),
        source=name_of(repo, plan.source),
        target=name_of(repo, target),
        name=branch,
        scale=scale,
        recipe=plan.recipe,
        backport=repo.commit(target).time < repo.commit(plan.source).time,
        compatibility=plan.combination.compatibility,
        geometry=numbers,
        recorded=recorded,
    )


def _branch(repo: Repository, commit: CommitId, text: str | None = None) -> str:
    """A commit's name as part of a branch name: `~` and ids of revisions are not allowed there."""
    found = name_of(repo, commit)
    return found.replace("~", "-") if text is None or "~" in found else found
