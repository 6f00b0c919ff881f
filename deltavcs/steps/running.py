"""How checkpoints are run on a task: what rank, connectivity and the merges with statistics share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.repo import Repository
from deltavcs.resources import no_progress
from deltavcs.steps.targets import parse_dtype
from deltavcs.tasks.sampling import DEFAULT_SAMPLES, sample_examples

if TYPE_CHECKING:
    from deltavcs.evaluation.bench import Bench
    from deltavcs.evaluation.executor import Executor
    from deltavcs.evaluation.prompts import Prompts
    from deltavcs.storage.hub_client import HubOptions
    from deltavcs.tasks.reading import TaskRows
    from deltavcs.tasks.template import Example


@dataclass(frozen=True, slots=True)
class Running:
    """How checkpoints are run on a task: on which rows, and where.

    Attributes:
        samples: rows to ask, 256 as in Mashup Learning §5.2.
        seed: draws them.
        devices: one worker each, as torch spells them.
        dtype: of the parameters; None for each checkpoint's own.
        batch_size: a number, or `auto`, which backs off when memory runs out.
        executor: what runs the workers; None for this process.
        hub: how to reach the Hub for the task's rows.
    """

    samples: int = DEFAULT_SAMPLES
    seed: int = 0
    devices: tuple[str, ...] = ("cpu",)
    dtype: str | None = None
    batch_size: int | str = "auto"
    executor: Executor | None = None
    hub: HubOptions | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """What checkpoints are asked: samples of a task.

    Attributes:
        rows: the whole split.
        examples: the samples.
        samples: how many were asked for; there are fewer in a small split.
        seed: what drew them.
    """

    rows: TaskRows
    examples: tuple[Example, ...]
    samples: int
    seed: int


def open_probe(repo: Repository, task: str, running: Running, *, split: str | None = None) -> Probe:
    """Read a task's rows and draw the samples. Raises as `find_task` and `read_task` do."""
    from deltavcs.tasks.catalog import find_task
    from deltavcs.tasks.reading import read_task

    rows = read_task(find_task(repo.objects, repo.refs, task), split=split, hub=running.hub)
    examples = sample_examples(rows, running.samples, seed=running.seed)
    return Probe(rows, examples, running.samples, running.seed)


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Put a checkpoint's name before what is said of it."""
    try:
        yield
    except InvalidInputError as exc:
        if exc.kind not in (ErrorKind.BAD_CHECKPOINT, ErrorKind.INCOMPATIBLE):
            raise
        raise exc.within(name)  # noqa: B904 - the same error


def open_bench(repo: Repository, prompts: Prompts, running: Running, *, device: str, quiet: bool) -> Bench:
    """A model on `device` that is asked the prompts.

    Args:
        quiet: progress is told by someone else.
    """
    from deltavcs.evaluation.bench import Bench

    return Bench(
        repo.objects,
        prompts,
        device=device,
        dtype=parse_dtype(running.dtype) if running.dtype is not None else None,
        batch_size=running.batch_size,
        resources=replace(repo.resources, progress=no_progress) if quiet else repo.resources,
    )
