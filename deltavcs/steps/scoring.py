"""Ranking checkpoints by their scores on a task (Mashup Learning, Algorithm 1, step 1).

One model instance per device: it is loaded once, and the candidates' tensors are swapped in place. Each
score is kept as soon as it is known, so an interrupted ranking goes on where it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.evaluation.evaluator import Evaluation
from deltavcs.evaluation.executor import LocalExecutor
from deltavcs.evaluation.prompts import Prompts
from deltavcs.evaluation.subject import subject_of
from deltavcs.objects.model import Role
from deltavcs.oid import CommitId
from deltavcs.ranking.candidates import Candidate
from deltavcs.ranking.order import Evaluated, check_metric, order
from deltavcs.ranking.result import NotRanked, Ranked, Ranking
from deltavcs.repo import Repository
from deltavcs.signature import Signature
from deltavcs.steps.naming import name_of
from deltavcs.steps.recording import catch_up
from deltavcs.steps.running import Probe, Running, open_bench, open_probe
from deltavcs.steps.scores import Conditions, find_score, make_score, save_score
from deltavcs.steps.selecting import Selected, Selection, select
from deltavcs.steps.targets import parse_dtype


def rank_checkpoints(
    repo: Repository, task: str, selection: Selection, running: Running, *, why: str | None = None
) -> Ranking:
    """Rank every selected checkpoint; all of them are at the top.

    Args:
        why: for the reflog of the scores.

    Raises:
        NotFoundError: no such task or revision, or no checkpoint that fits.
        InvalidInputError: `bad-task` rows; `bad-argument`, also if the history holds several architectures.
    """
    check_metric(selection.metric)
    selected = select(repo, selection)
    probe = open_probe(repo, task, running)
    signature = repo.identity.sign(why or f"rank on {task}")
    scoring = _Scoring(repo, probe, running, selected, signature)
    found = order(scoring.run(), selection.metric)
    catch_up(repo)
    ranked = tuple(_ranked(repo, i, one) for i, one in enumerate(found, start=1))
    return Ranking(
        task=task,
        task_fingerprint=probe.rows.fingerprint,
        split=probe.rows.split,
        substituted=probe.rows.substituted,
        samples=running.samples,
        n_samples=len(probe.examples),
        seed=running.seed,
        metric=selection.metric,
        ranked=ranked,
        top=ranked,
        failed=(*selected.unusable, *scoring.failed),
        n_excluded=selected.n_excluded,
    )


@dataclass(slots=True)
class _Scoring:
    """The scores of all candidates on a probe, old and new."""

    repo: Repository
    probe: Probe
    running: Running
    selected: Selected
    signature: Signature
    prompts: Prompts = field(init=False)
    dtype: str | None = field(init=False)
    names: dict[CommitId, str] = field(init=False)
    failed: list[NotRanked] = field(default_factory=list)
    done: int = 0

    def __post_init__(self) -> None:
        self.prompts = Prompts(self.repo.objects, self.probe.examples)
        self.dtype = parse_dtype(self.running.dtype) if self.running.dtype is not None else None
        self.names = {c.commit: name_of(self.repo, c.commit) for c in self.selected.candidates}

    def run(self) -> list[Evaluated]:
        """Evaluate what has no score yet; each new one is saved at once."""
        executor = self.running.executor or LocalExecutor(self.running.devices)
        alone = self.running.executor is None and len(self.running.devices) == 1

        def start(device: str) -> _CandidateWorker:
            return _CandidateWorker(self, device, reports=alone)

        scored = []
        for outcome in executor.run(self.selected.candidates, start, recall=self._recall):
            self.done += len(self.probe.examples)
            self.report(0)
            found = outcome.result
            if found is None:
                self._note_failure(outcome.item, outcome.error)
                continue
            if not found.recalled:
                conditions = self.conditions(outcome.item)
                save_score(self.repo, conditions, found.score, signature=self.signature)
            scored.append(found)
        return scored

    def report(self, more: int) -> None:
        """Say that `more` rows of the candidate under way are done."""
        total = len(self.selected.candidates) * len(self.probe.examples)
        self.repo.resources.progress("evaluating", self.done + more, total)

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

    def _recall(self, candidate: Candidate) -> Evaluated | None:
        found = find_score(self.repo, self.conditions(candidate))
        return Evaluated(candidate, found, recalled=True) if found is not None else None

    def _note_failure(self, candidate: Candidate, error: Exception | None) -> None:
        """Note a checkpoint that cannot be evaluated; what is not about this checkpoint flies on."""
        if not isinstance(error, InvalidInputError) or error.kind is ErrorKind.LIMIT_EXCEEDED:
            assert error is not None
            raise error
        self.failed.append(NotRanked(candidate.commit, self.names[candidate.commit], str(error)))


class _CandidateWorker:
    """Evaluates candidate after candidate on one device."""

    def __init__(self, scoring: _Scoring, device: str, *, reports: bool) -> None:
        self._scoring = scoring
        self._device = device
        self._reports = reports
        self._bench = open_bench(
            scoring.repo, scoring.prompts, scoring.running, device=device, quiet=not reports
        )

    def __call__(self, candidate: Candidate) -> Evaluated:
        scoring = self._scoring
        name = scoring.names[candidate.commit]
        subject = subject_of(scoring.repo.objects, candidate.commit, name, model_key=candidate.model_key)
        rows = scoring.probe.rows
        progress = (lambda done, _: scoring.report(done)) if self._reports else None
        found = self._bench.evaluate(subject, split=rows.split, progress=progress)
        _check_finite(found)
        score = make_score(candidate.commit, scoring.conditions(candidate), rows, found, device=self._device)
        return Evaluated(candidate, score, recalled=False)


def _check_finite(found: Evaluation) -> None:
    if not math.isfinite(found.loss):
        raise InvalidInputError(f"its loss is {found.loss}", kind=ErrorKind.BAD_CHECKPOINT)


def _ranked(repo: Repository, position: int, one: Evaluated) -> Ranked:
    value = repo.commit(one.candidate.commit)
    base = value.parent_as(Role.BASE)
    return Ranked(
        rank=position,
        commit=one.candidate.commit,
        name=name_of(repo, one.candidate.commit),
        kind=str(one.candidate.kind),
        loss=one.score.loss,
        accuracy=one.score.accuracy,
        task=one.candidate.task,
        base=name_of(repo, base) if base is not None else None,
        recipe=value.recipe,
        recalled=one.recalled,
        truncated=int(one.score.metadata.get("truncated", "0")),
    )
