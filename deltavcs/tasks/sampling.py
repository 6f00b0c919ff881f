"""Which rows of a task a model is asked."""

from __future__ import annotations

import heapq

from deltavcs.oid import hash_bytes
from deltavcs.tasks.reading import TaskRows
from deltavcs.tasks.record import bad_task
from deltavcs.tasks.template import Example

DEFAULT_SAMPLES = 256  # Mashup Learning §5.2


def sample_examples(rows: TaskRows, n: int = DEFAULT_SAMPLES, *, seed: int = 0) -> tuple[Example, ...]:
    """Choose `n` examples, or all if there are fewer.

    Each row draws the number BLAKE3(seed, row id); the `n` smallest win, in that order. So the choice does
    not depend on the order of rows, a larger sample contains every smaller one of the same seed, and adding
    a row changes at most one place.

    Raises:
        InvalidInputError: `bad-task` for n < 1.
    """
    if n < 1:
        raise bad_task(f"cannot take {n} samples")
    drawn = (
        (hash_bytes("task-sample", f"{seed}:{row_id}".encode()), i) for i, row_id in enumerate(rows.row_ids)
    )
    return tuple(rows.examples[i] for _, i in heapq.nsmallest(n, drawn))
