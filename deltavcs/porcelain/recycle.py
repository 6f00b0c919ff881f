"""Iterative recycling-then-finetuning over successive bases, resumable.

Lin et al., "Efficient Model Development through Fine-tuning Transfer", §6, Algorithm 1:

    M*_1 ← FT(M_1)
    for i = 2 … n:   Δ_{i−1} = M*_{i−1} − M_{i−1};   M*_i ← FT(M_i + Δ_{i−1})

*Iterative* carries the diff vector of the recycled and fine-tuned model on. *Direct*, the paper's baseline
Δ_dir, applies the diff vector of plain fine-tuning of the version before: M*_i ← FT(M_i + FT(M_{i−1}) −
M_{i−1}). Both agree for the first two versions.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deltavcs.advice import Advice
from deltavcs.brief import brief
from deltavcs.errors import AlreadyExistsError, ErrorKind, InvalidInputError
from deltavcs.objects.model import Commit, Kind, Parent, Role
from deltavcs.oid import CommitId, hash_bytes
from deltavcs.refs import check_name
from deltavcs.repo import Repository
from deltavcs.signature import Signature
from deltavcs.steps.arguments import several
from deltavcs.steps.bases import Base
from deltavcs.steps.checkouts import write_target
from deltavcs.steps.commits import commit_source
from deltavcs.steps.recording import Draft, tip_of
from deltavcs.steps.sources import open_source
from deltavcs.steps.stages import (
    Stage,
    are_in_conflict,
    fill_command,
    parse_command,
    plan_stages,
    stage_folder,
)
from deltavcs.steps.targets import find_target
from deltavcs.steps.transfers import measure_transfer, plan_transfer, record_transfer
from deltavcs.storage import translate_os_errors

Runner = Callable[[Sequence[str]], int]
Watcher = Callable[[Stage, int], None]


def run_command(arguments: Sequence[str]) -> int:
    """Run a command without a shell, its output where ours goes; returns its exit status."""
    return subprocess.run(list(arguments), check=False).returncode


def _no_watcher(stage: Stage, n_stages: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Training:
    """How models are trained, and where.

    Attributes:
        command: the user's own training command. `{init}` is the directory to start from, `{out}` the one to
            write to (it does not exist yet); `{base}` is the base's name and `{stage}` the stage's number.
            It is split as a shell would, then run without one, so paths need no quotes; for pipes or
            variables write `sh -c '…'`.
        work: directory for what is checked out and trained; finished stages are cleared away.
        keep: leave the directories of finished stages.
        run: runs the command and returns its exit status, negative for a signal.
        watch: told each stage that is about to be run, and how many there are in all.
    """

    command: str
    work: Path
    keep: bool = False
    run: Runner = run_command
    watch: Watcher = _no_watcher

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class StageResult:
    """A stage and what became of it.

    Attributes:
        commit: None if it has not run.
        reused: True if an earlier run had finished it.
    """

    stage: Stage
    commit: CommitId | None
    reused: bool

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class Recycled:
    """A run of Algorithm 1, or its plan after a dry run."""

    name: str
    mode: str
    command: str
    work: Path
    stages: tuple[StageResult, ...]

    __repr__ = brief


def recycle(
    repo: Repository,
    bases: Sequence[str],
    training: Training,
    *,
    name: str,
    iterative: bool = True,
    dry_run: bool = False,
) -> Recycled:
    """Fine-tune every base in turn, each from what was learnt on the one before.

    Every stage is a commit, and a finished stage is never run again: after a failure, or if this process
    is killed at any moment, the same call goes on at the stage that was not finished and ends with the same
    commits. A training that had finished but was not committed is committed, not repeated.

    Args:
        bases: revisions M_1 … M_n, oldest first.
        training: the user's own command, and where it runs.
        name: results are the branches NAME/BASE, starting points NAME/BASE.init.
        iterative: False for the direct form.
        dry_run: plan only; nothing is run.

    Raises:
        InvalidInputError: `command-failed`; `bad-argument` for the command or the bases.
        AlreadyExistsError: `ref-exists` if a branch holds something else; noticed before anything is run.
        ConflictError: `locked` if this run is under way already.
        KeyboardInterrupt: with a text that says how to go on.
    """
    mode = "iterative" if iterative else "direct"
    parse_command(training.command)
    stages = plan_stages(repo, several(bases, "bases"), name, iterative=iterative)
    run = _RecycleRun(repo, check_name(name), mode, training)
    if dry_run:
        return Recycled(name, mode, training.command, training.work, tuple(run.look(stages)))
    repo.check_writable()
    with repo.storage.lock(f"locks/recycle-{hash_bytes('ref', name.encode())[:32]}", wait=False):
        run.look(stages)  # a training takes hours: whatever stands in the way is said first
        try:
            results = [run.run(stage, len(stages)) for stage in stages]
        except KeyboardInterrupt as exc:
            raise KeyboardInterrupt("finished stages are kept: repeat the command to go on") from exc
    _remove_if_empty(training)
    return Recycled(name, mode, training.command, training.work, tuple(results))


def _remove_if_empty(training: Training) -> None:
    work = training.work
    if not training.keep and work.is_dir() and not any(work.iterdir()):
        with translate_os_errors(f"cannot remove {work}"):
            work.rmdir()


@dataclass(frozen=True, slots=True)
class _RecycleRun:
    """One run: what its stages need."""

    repo: Repository
    name: str
    mode: str
    training: Training

    def look(self, stages: Sequence[Stage]) -> list[StageResult]:
        """Which stages are finished.

        Raises:
            AlreadyExistsError: `ref-exists` if a branch stands in the way of any of them.
        """
        found = [self.finished(stage) for stage in stages]
        for stage, done in zip(stages, found, strict=True):
            if done is None:
                self._check_room(stage)
        return [StageResult(s, done, done is not None) for s, done in zip(stages, found, strict=True)]

    def _check_room(self, stage: Stage) -> None:
        names = (ref.removeprefix("refs/heads/") for ref in self.repo.refs.names("refs/heads"))
        taken = next((name for name in names if are_in_conflict(name, stage.branch)), None)
        if taken is not None:
            raise AlreadyExistsError(
                f"{stage.branch} of stage {stage.position} cannot be created: {taken} exists",
                kind=ErrorKind.REF_EXISTS,
                advice=Advice.NO_FOLDER_OF_ANOTHER,
            )

    def run(self, stage: Stage, n_stages: int) -> StageResult:
        """Finish a stage, or find it finished."""
        done = self.finished(stage)
        reused = done is not None
        if done is None:
            self.training.watch(stage, n_stages)
            done = self._transfer(stage) if stage.is_transfer else self._train(stage)
        folder = self._folder(stage)
        if not self.training.keep and folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)
        return StageResult(stage, done, reused)

    def finished(self, stage: Stage) -> CommitId | None:
        """The stage's commit, if it is there.

        Raises:
            AlreadyExistsError: `ref-exists` if its branch holds something else.
        """
        tip = tip_of(self.repo, stage.branch)
        if tip is None:
            return None
        why = self._difference(stage, self.repo.commit(tip))
        if why is not None:
            raise AlreadyExistsError(
                f"{stage.branch} exists already and is not stage {stage.position} of this run: {why}",
                kind=ErrorKind.REF_EXISTS,
                advice=Advice.OTHER_NAME_OR_REPEAT,
            )
        return tip

    def _difference(self, stage: Stage, value: Commit) -> str | None:
        """Why a commit is not a stage of this run; None if it is."""
        kind = Kind.TRANSFER if stage.is_transfer else Kind.FINETUNE
        if value.kind is not kind:
            return f"it is a {value.kind}"
        facts = {} if stage.is_transfer else self._facts(stage)
        for key, wanted in facts.items():
            found = value.metadata.get(key)
            if found is None:
                return "it was not made by recycling"
            if found != wanted:
                return f"its {key.removeprefix('recycle.')} is {found!r}"
        if value.parent_as(Role.BASE) != stage.base:
            return "its base is another commit"
        role, branch = (Role.DELTA, stage.delta) if stage.is_transfer else (Role.INIT, stage.init)
        if value.parent_as(role) != self._tip(branch):
            return f"it was made from another commit than {branch}" if branch else "it started elsewhere"
        return None

    def _tip(self, branch: str | None) -> CommitId | None:
        return None if branch is None else tip_of(self.repo, branch)

    def _facts(self, stage: Stage) -> dict[str, str]:
        return {
            "recycle.mode": self.mode,
            "recycle.stage": str(stage.position),
            "recycle.command": self.training.command,
        }

    def _signature(self, stage: Stage) -> Signature:
        return self.repo.identity.sign(f"recycle {self.name}: {stage.text}")

    def _transfer(self, stage: Stage) -> CommitId:
        """M_i + Δ_{i−1}."""
        delta = self._tip(stage.delta)
        assert delta is not None
        plan = plan_transfer(self.repo, delta, stage.base)
        distances = measure_transfer(self.repo, plan)
        draft = Draft(stage.branch, stage.text, signature=self._signature(stage))
        return record_transfer(self.repo, plan, draft, distances).commit

    def _train(self, stage: Stage) -> CommitId:
        """FT(…): check the starting point out, run the command, commit what it wrote."""
        out = self._folder(stage) / "out"
        if not out.exists():
            self._run_command(stage, out)
        _check_output(out)
        init = self._tip(stage.init)
        parents = [Parent(init, Role.INIT)] if init is not None else []
        facts = self._facts(stage)
        draft = Draft(stage.branch, stage.text, metadata=facts, signature=self._signature(stage))
        base = Base(stage.base, stage.base_name, "given")
        with open_source(self.repo, str(out)) as opened:
            return commit_source(self.repo, opened, base, draft, parents=parents).commit

    def _run_command(self, stage: Stage, out: Path) -> None:
        """Train into a fresh directory and give it its final name only when the command has succeeded.

        A killed run may leave its command running; that one writes to a directory of its own.
        """
        folder = self._folder(stage)
        with translate_os_errors(f"cannot write to {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
            init = folder / "init"
            shutil.rmtree(init, ignore_errors=True)
            n = 1 + sum(p.name.startswith("attempt-") for p in folder.iterdir())
        target = find_target(self.repo, self._tip(stage.init) or stage.base)
        write_target(self.repo, target, init, force=True)
        attempt = folder / f"attempt-{n}"
        places = {
            "init": str(init),
            "out": str(attempt),
            "base": stage.base_name,
            "stage": str(stage.position),
        }
        try:
            status = self.training.run(fill_command(self.training.command, places))
        except OSError as exc:
            raise _failed(stage, f"could not be run: {exc.strerror or exc}: {exc.filename or ''}") from exc
        if status != 0:
            raise _failed(stage, _ended(status))
        if not attempt.is_dir():
            raise _failed(stage, f"wrote nothing to {attempt}", Advice.WRITE_TO_OUT)
        with translate_os_errors(f"cannot rename {attempt}"):
            attempt.rename(out)

    def _folder(self, stage: Stage) -> Path:
        inputs = [self._tip(stage.init), self._tip(stage.delta)]
        return self.training.work.absolute() / stage_folder(stage, self.mode, self.training.command, inputs)


def _failed(stage: Stage, what: str, advice: Advice | None = None) -> InvalidInputError:
    message = f"stage {stage.position} ({stage.text}): the command {what}"
    return InvalidInputError(message, kind=ErrorKind.COMMAND_FAILED, advice=advice)


def _ended(status: int) -> str:
    if status < 0 and -status in {s.value for s in signal.Signals}:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def _check_output(out: Path) -> None:
    if (out / "adapter_config.json").is_file() and not (out / "config.json").is_file():
        raise InvalidInputError(
            f"the command wrote an adapter to {out}; the next base needs a whole model",
            kind=ErrorKind.COMMAND_FAILED,
            advice=Advice.MERGE_IN_COMMAND,
        )
