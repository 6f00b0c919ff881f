"""`dvx rank`: which past checkpoints fit a new task best (Mashup Learning, step 1)."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from deltavcs.errors import ErrorKind, InvalidInputError, NotFoundError
from deltavcs.evaluation.architecture import whole_keys
from deltavcs.evaluation.bench import Bench
from deltavcs.evaluation.evaluator import Evaluation
from deltavcs.evaluation.executor import Executor, LocalExecutor
from deltavcs.evaluation.prompts import Prompts
from deltavcs.evaluation.subject import Subject, subject_of
from deltavcs.index.statement import query
from deltavcs.objects.model import Kind, Role
from deltavcs.oid import CommitId
from deltavcs.porcelain.checkout import parse_dtype
from deltavcs.ranking.candidates import Candidate, Unusable, base_chain, find_candidates
from deltavcs.ranking.order import Evaluated, check_metric, choose_group, order, without_tasks
from deltavcs.repo import Repository
from deltavcs.resources import Resources
from deltavcs.signature import Signature
from deltavcs.steps.naming import name_of, names_by_commit, tips
from deltavcs.steps.recording import catch_up
from deltavcs.steps.running import Probe, open_probe
from deltavcs.steps.scores import Conditions, find_score, make_score, save_score
from deltavcs.storage.hub_client import HubOptions
from deltavcs.tasks.sampling import DEFAULT_SAMPLES

NOBODY = Signature("", 0)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which checkpoints take part.

    Attributes:
        base: only this checkpoint and what was made from it; also settles the architecture.
        where: SQL condition over the columns of the view `log`, such as `task = 'piqa'`.
        exclude_tasks: leave out checkpoints that these tasks went into, also through a parent.
        adapters: True for LoRA adapters, False for whole checkpoints, None to go by what there is.
        bases: keep the bases themselves in.
        last_only: of each branch only the last checkpoint.
    """

    base: str | None = None
    where: str | None = None
    exclude_tasks: tuple[str, ...] = ()
    adapters: bool | None = None
    bases: bool = True
    last_only: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """How checkpoints are run.

    Attributes:
        devices: one worker each, as torch spells them.
        dtype: of the parameters; None for each checkpoint's own.
        batch_size: a number, or `auto`, which backs off when memory runs out.
        executor: what runs the workers; None for this process.
        hub: how to reach the Hub for the task's rows.
    """

    devices: tuple[str, ...] = ("cpu",)
    dtype: str | None = None
    batch_size: int | str = "auto"
    executor: Executor | None = None
    hub: HubOptions | None = None


@dataclass(frozen=True, slots=True)
class Ranked:
    """One line of the result.

    Attributes:
        rank: from 1.
        accuracy: share of exact matches.
        task: what it was trained on, if said.
        base: name of what it was made from.
        recipe: how it was made, if it is derived.
        recalled: True if the score was there already.
        truncated: samples that were longer than the model can take, and cut.
    """

    rank: int
    commit: CommitId
    name: str
    kind: str
    loss: float
    accuracy: float | None
    task: str | None
    base: str | None
    recipe: str | None
    recalled: bool
    truncated: int


@dataclass(frozen=True, slots=True)
class NotRanked:
    """A checkpoint without a place, and why."""

    commit: CommitId
    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Ranking:
    """Checkpoints by how well they do on samples of a task.

    Attributes:
        split: where the samples come from.
        substituted: True if that is not the training split, because there is none.
        n_samples: how many there were; fewer than `samples` in a small split.
        ranked: best first, all of them.
        top: the first k.
        failed: could not be evaluated.
        n_excluded: left out by the selection.
    """

    task: str
    task_fingerprint: str
    split: str
    substituted: bool
    samples: int
    n_samples: int
    seed: int
    metric: str
    ranked: tuple[Ranked, ...]
    top: tuple[Ranked, ...]
    failed: tuple[NotRanked, ...]
    n_excluded: int


@dataclass(slots=True)
class _Run:
    """One ranking under way."""

    repo: Repository
    probe: Probe
    running: Running
    dtype: str | None
    prompts: Prompts
    resources: Resources
    signature: Signature
    names: dict[CommitId, str]
    failed: list[NotRanked] = field(default_factory=list)
    done: int = 0
    total: int = 0

    def conditions(self, candidate: Candidate) -> Conditions:
        """What a candidate's score depends on."""
        return Conditions(
            candidate.manifest,
            candidate.below,
            self.probe.rows.fingerprint,
            len(self.probe.examples),
            self.probe.seed,
            self.dtype,
        )


def rank(
    repo: Repository,
    task: str,
    k: int | None = None,
    *,
    samples: int = DEFAULT_SAMPLES,
    seed: int = 0,
    metric: str = "loss",
    selection: Selection | None = None,
    running: Running | None = None,
    signature: Signature = NOBODY,
    resources: Resources | None = None,
) -> Ranking:
    """Rank every compatible checkpoint by its loss on samples of a task's training split.

    One model instance per device: it is loaded once, and the candidates' tensors are swapped in place. Each
    score is kept as soon as it is known, so an interrupted run goes on where it was, and nothing is
    evaluated twice.

    Args:
        task: a task of the repository, or a built-in one.
        k: how many to put into `Ranking.top`; None for all.
        metric: `loss` or `accuracy`.

    Raises:
        NotFoundError: no such task or revision, or no checkpoint that fits.
        InvalidInputError: `bad-task` rows; `bad-argument`, also if the history holds several architectures.
    """
    check_metric(metric)
    running, resources = running or Running(), resources or Resources()
    chosen, failed, n_excluded = select(repo, selection or Selection())
    probe = open_probe(repo, task, samples=samples, seed=seed, hub=running.hub)
    run = _Run(
        repo=repo,
        probe=probe,
        running=running,
        dtype=parse_dtype(running.dtype) if running.dtype is not None else None,
        prompts=Prompts(repo.objects, probe.examples),
        resources=resources,
        signature=signature,
        names=_names(repo, [c.commit for c in chosen]),
        failed=failed,
        total=len(chosen) * len(probe.examples),
    )
    found = order(_evaluate(run, chosen), metric)
    catch_up(repo)
    ranked = tuple(_ranked(run, i, one) for i, one in enumerate(found, start=1))
    return Ranking(
        task=task,
        task_fingerprint=probe.rows.fingerprint,
        split=probe.rows.split,
        substituted=probe.rows.substituted,
        samples=samples,
        n_samples=len(probe.examples),
        seed=seed,
        metric=metric,
        ranked=ranked,
        top=ranked[:k],
        failed=tuple(run.failed),
        n_excluded=n_excluded,
    )


def select(repo: Repository, selection: Selection) -> tuple[list[Candidate], list[NotRanked], int]:
    """The candidates of one group, those that cannot be evaluated, and how many were left out.

    Raises:
        NotFoundError: `unknown-revision` if none is left.
    """
    every: list[Candidate] = []
    failed: list[NotRanked] = []
    wanted = _where(repo, selection.where) if selection.where is not None else None
    for one in find_candidates(repo.objects, tips(repo), last_only=selection.last_only):
        if wanted is not None and one.commit not in wanted:
            continue
        if isinstance(one, Unusable):
            failed.append(NotRanked(one.commit, name_of(repo, one.commit), one.why))
        else:
            every.append(one)
    kept = without_tasks(every, selection.exclude_tasks)
    if not selection.bases:
        kept = [c for c in kept if c.kind is not Kind.BASE]
    if selection.base is not None:
        kept = _made_from(repo, kept, repo.resolve(selection.base))
    names = {c: found[0] for c, found in names_by_commit(repo).items()}
    chosen = choose_group(kept, adapters=selection.adapters, describe=names)
    if not chosen:
        raise NotFoundError(
            "there is no checkpoint to rank",
            kind=ErrorKind.UNKNOWN_REVISION,
            hint="Commit fine-tunes first, or widen --base, --where and --exclude-task.",
        )
    # Candidates that share a model instance stand together; otherwise newest first, as history has them.
    chosen.sort(key=lambda c: c.model_key)
    return chosen, failed, len(every) - len(chosen)


def _where(repo: Repository, condition: str) -> frozenset[CommitId]:
    """Commits that a condition over the view `log` holds for. Raises InvalidInputError: `bad-sql`."""
    found = query(repo.index, f'SELECT "commit" FROM log WHERE ({condition}\n)')
    return frozenset(CommitId(row[0]) for row in found.rows)


def _made_from(repo: Repository, candidates: Sequence[Candidate], base: CommitId) -> list[Candidate]:
    """The base itself, and what was made from it without changing its shapes."""
    group = None
    if repo.commit(base).kind is not Kind.ADAPTER:
        group = whole_keys(repo.objects, repo.manifest(base))[0]
    manifest = repo.commit(base).manifest
    return [
        c
        for c in candidates
        if c.manifest == manifest
        # An adapter runs on the very base it was made for, and on nothing that was made from it.
        or (c.is_adapter and c.below == manifest)
        or (c.group == group and base in base_chain(repo.objects, c.commit))
    ]


def _names(repo: Repository, commits: Collection[CommitId]) -> dict[CommitId, str]:
    return {c: name_of(repo, c) for c in commits}


def _evaluate(run: _Run, candidates: Sequence[Candidate]) -> list[Evaluated]:
    """Scores of all candidates, old and new; each new one is saved at once."""
    executor = run.running.executor or LocalExecutor(run.running.devices)
    single = run.running.executor is None and len(run.running.devices) == 1

    def recall(candidate: Candidate) -> Evaluated | None:
        found = find_score(run.repo, run.conditions(candidate))
        return Evaluated(candidate, found, recalled=True) if found is not None else None

    def start(device: str) -> _Worker:
        return _Worker(run, device, reports=single)

    out = []
    for outcome in executor.run(candidates, start, recall=recall):
        run.done += len(run.probe.examples)
        run.resources.progress("evaluating", run.done, run.total)
        found = outcome.result
        if found is None:
            _note_failure(run, outcome.item, outcome.error)
            continue
        if not found.recalled:
            conditions = run.conditions(outcome.item)
            save_score(run.repo, conditions, found.score, signature=run.signature)
        out.append(found)
    return out


def _note_failure(run: _Run, candidate: Candidate, error: Exception | None) -> None:
    """Note a checkpoint that cannot be evaluated; anything that is not about this checkpoint flies on."""
    if not isinstance(error, InvalidInputError) or error.kind is ErrorKind.LIMIT_EXCEEDED:
        assert error is not None
        raise error
    run.failed.append(NotRanked(candidate.commit, run.names[candidate.commit], str(error)))


class _Worker:
    """Evaluates candidate after candidate on one device."""

    def __init__(self, run: _Run, device: str, *, reports: bool) -> None:
        self._run = run
        self._device = device
        self._reports = reports
        self._bench = Bench(
            run.repo.objects,
            run.prompts,
            device=device,
            dtype=run.dtype,
            batch_size=run.running.batch_size,
            resources=run.resources
            if reports
            else Resources(run.resources.threads, run.resources.memory_bytes),
        )

    def __call__(self, candidate: Candidate) -> Evaluated:
        run = self._run
        subject = self._subject(candidate)
        found = self._bench.evaluate(
            subject, split=run.probe.rows.split, progress=self._report if self._reports else None
        )
        _check_finite(found)
        conditions = run.conditions(candidate)
        score = make_score(candidate.commit, conditions, run.probe.rows, found, device=self._device)
        return Evaluated(candidate, score, recalled=False)

    def _subject(self, candidate: Candidate) -> Subject:
        name = self._run.names[candidate.commit]
        return subject_of(self._run.repo.objects, candidate.commit, name, model_key=candidate.model_key)

    def _report(self, done: int, _: int) -> None:
        self._run.resources.progress("evaluating", self._run.done + done, self._run.total)


def _check_finite(found: Evaluation) -> None:
    if not math.isfinite(found.loss):
        raise InvalidInputError(f"its loss is {found.loss}", kind=ErrorKind.BAD_CHECKPOINT)


def _ranked(run: _Run, position: int, one: Evaluated) -> Ranked:
    value = run.repo.commit(one.candidate.commit)
    base = value.parent_as(Role.BASE)
    return Ranked(
        rank=position,
        commit=one.candidate.commit,
        name=run.names[one.candidate.commit],
        kind=str(one.candidate.kind),
        loss=one.score.loss,
        accuracy=one.score.accuracy,
        task=one.candidate.task,
        base=name_of(run.repo, base) if base is not None else None,
        recipe=value.recipe,
        recalled=one.recalled,
        truncated=int(one.score.metadata.get("truncated", "0")),
    )
