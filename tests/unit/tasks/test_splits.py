from __future__ import annotations

from pathlib import Path

import pytest
from task_rows import bad_task_message, choice_rows, write_jsonl

from deltavcs.tasks.definition import file_task
from deltavcs.tasks.reading import read_task
from deltavcs.tasks.splits import group_by_split, split_of


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("data/train-00000-of-00001.parquet", "train"),
        ("plain_text/validation/0000.parquet", "validation"),
        ("piqa_dev.jsonl", "validation"),
        ("val.csv", "validation"),
        ("training.jsonl", "train"),
        ("contest.jsonl", None),
        ("test/trainable.jsonl", "test"),
    ],
)
def test_split_of(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_groups_prefer_configuration_then_prefix() -> None:
    names = ["train_xl/test.jsonl", "train_s/train.jsonl", "a_train.jsonl", "b_dev.jsonl", "x.md"]
    assert group_by_split(names, config="train_xl", prefix=None) == {"test": ["train_xl/test.jsonl"]}
    assert group_by_split(names, config=None, prefix="b") == {"validation": ["b_dev.jsonl"]}
    assert group_by_split(["rows.jsonl"], config=None, prefix=None) == {"train": ["rows.jsonl"]}
    assert group_by_split(["x.md"], config=None, prefix=None) == {}


def test_training_split_first_and_said_when_another_stands_in(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "t_train.jsonl", choice_rows(3))
    write_jsonl(tmp_path / "t_validation.jsonl", choice_rows(4))
    write_jsonl(tmp_path / "u_train.jsonl", choice_rows(5, task="u"))
    write_jsonl(tmp_path / "v_dev.jsonl", choice_rows(6, task="v"))
    found = read_task(file_task("t", tmp_path))
    assert (found.split, found.substituted, len(found.examples)) == ("train", False, 3)
    other = read_task(file_task("v", tmp_path))
    assert (other.split, other.wanted_split, other.substituted) == ("validation", "train", True)
    assert len(other.examples) == 6  # never another task's training rows
    assert len(read_task(file_task("t", tmp_path), split="validation").examples) == 4
    assert "no rows for test" in bad_task_message(file_task("t", tmp_path), split="test")


def test_split_of_one_file(tmp_path: Path) -> None:
    both = choice_rows(2, split="test") + choice_rows(3, split="train")
    path = write_jsonl(tmp_path / "rows.jsonl", both)
    assert len(read_task(file_task("t", path)).examples) == 3
    assert len(read_task(file_task("t", path), split="test").examples) == 2
    assert len(read_task(file_task("t", path, split="train")).examples) == 5
    rows = [{k: v for k, v in row.items() if k != "split"} for row in both]
    assert read_task(file_task("t", write_jsonl(tmp_path / "plain.jsonl", rows))).split == "train"
    named = write_jsonl(tmp_path / "piqa-dev.jsonl", rows)
    assert read_task(file_task("t", named)).split == "validation"
