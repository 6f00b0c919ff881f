"""Statistics for the merge methods that need some: every model is run on rows of a task."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.evaluation.bench import Bench
from deltavcs.evaluation.prompts import Prompts
from deltavcs.evaluation.subject import subject_of
from deltavcs.merging.gathering import GatheredStatistics
from deltavcs.repo import Repository
from deltavcs.steps.merge_plans import MergePlan
from deltavcs.steps.running import Running, naming, open_probe


def gather_statistics(
    repo: Repository, plan: MergePlan, tasks: Sequence[str], running: Running, folder: Path
) -> GatheredStatistics:
    """Run every model on its task's rows and keep its statistics.

    Args:
        tasks: one for all models, one for each, or none for the task that each was committed with.
        folder: for statistics that do not fit in memory.

    Raises:
        NotFoundError: an unknown task.
        InvalidInputError: `bad-argument` for another number of tasks, or a model that has none.
    """
    kind, resources = plan.method.statistics, repo.resources
    assert kind is not None
    tasks = _tasks(repo, plan, tasks)
    gathered = GatheredStatistics(folder, memory_bytes=resources.memory_bytes)
    total = running.samples * len(tasks)
    bench: Bench | None = None
    for position, (commit, model, task) in enumerate(zip(plan.inputs, plan.models, tasks, strict=True)):
        prompts = Prompts(repo.objects, open_probe(repo, task, running).examples)
        # One model for all: loading the next checkpoint exchanges its weights.
        bench = bench or Bench(repo.objects, prompts, device=running.devices[0], resources=resources)
        bench.ask(prompts)
        subject = subject_of(repo.objects, commit, model.name)
        with naming(model.name):
            gathered.gather(
                kind,
                position,
                bench.load(subject),
                {k: t.shape for k, t in model.manifest.primary.items()},
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
