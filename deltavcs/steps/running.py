"""Opening a task for checkpoints to be run on: what rank, connectivity and merges with statistics share."""

from __future__ import annotations

from dataclasses import dataclass

from deltavcs.repo import Repository
from deltavcs.storage.hub_client import HubOptions
from deltavcs.tasks.catalog import find_task
from deltavcs.tasks.reading import TaskRows, read_task
from deltavcs.tasks.sampling import sample_examples
from deltavcs.tasks.template import Example


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


def open_probe(
    repo: Repository,
    task: str,
    *,
    samples: int,
    seed: int,
    split: str | None = None,
    hub: HubOptions | None = None,
) -> Probe:
    """Read a task's rows and draw the samples. Raises as `find_task` and `read_task` do."""
    rows = read_task(find_task(repo.objects, repo.refs, task), split=split, hub=hub)
    return Probe(rows, sample_examples(rows, samples, seed=seed), samples, seed)
