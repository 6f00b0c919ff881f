from __future__ import annotations

from pathlib import Path

import pytest
from task_rows import choice_rows, write_jsonl

from deltavcs.errors import InvalidInputError
from deltavcs.tasks.definition import file_task
from deltavcs.tasks.reading import read_task
from deltavcs.tasks.sampling import sample_examples


def test_sampling_depends_on_seed_and_content_only(tmp_path: Path) -> None:
    rows = choice_rows(60)
    a = read_task(file_task("a", write_jsonl(tmp_path / "a.jsonl", rows)))
    b = read_task(file_task("b", write_jsonl(tmp_path / "b.jsonl", rows[::-1])))
    chosen = sample_examples(a, 16, seed=1)
    assert len(set(chosen)) == 16
    assert chosen == sample_examples(b, 16, seed=1) == sample_examples(a, 16, seed=1)
    assert chosen[:5] == sample_examples(a, 5, seed=1)
    assert chosen != sample_examples(a, 16, seed=2)
    assert sorted(sample_examples(a, 999), key=str) == sorted(a.examples, key=str)
    with pytest.raises(InvalidInputError):
        sample_examples(a, 0)


def test_sampling_is_even(tmp_path: Path) -> None:
    rows = read_task(file_task("a", write_jsonl(tmp_path / "a.jsonl", choice_rows(40))))
    counts = dict.fromkeys(rows.examples, 0)
    for seed in range(300):
        for example in sample_examples(rows, 10, seed=seed):
            counts[example] += 1
    assert 45 < min(counts.values()) <= max(counts.values()) < 110  # 75 expected, sd 7.5
