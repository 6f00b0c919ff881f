from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import duckdb
import pytest

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.tasks.dataset_table import BUILTIN_TASKS, builtin_task
from deltavcs.tasks.definition import (
    FileSource,
    HubSource,
    Task,
    file_task,
    read_task,
    sample_examples,
    task_from_dict,
    task_to_dict,
    with_source,
)
from deltavcs.tasks.rows import RowLimits, read_rows
from deltavcs.tasks.template import Template


def choice_rows(n: int, *, task: str = "t", split: str = "train") -> list[dict[str, Any]]:
    return [
        {
            "id": f"{task}-{i}",
            "task": task,
            "split": split,
            "question": f"{task} question {i}?",
            "choices": [f"x{i}", f"y{i}", f"z{i}"],
            "label": i % 3,
        }
        for i in range(n)
    ]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def bad_task_message(task: Task, **kwargs: Any) -> str:
    with pytest.raises(InvalidInputError) as caught:
        read_task(task, **kwargs)
    assert caught.value.kind is ErrorKind.BAD_TASK
    return str(caught.value)


# -- files --------------------------------------------------------------------------------------------


def test_jsonl_parquet_and_csv_give_the_same_task(tmp_path: Path) -> None:
    rows = choice_rows(5)
    jsonl = write_jsonl(tmp_path / "rows.jsonl", rows)
    parquet, csv = tmp_path / "rows.parquet", tmp_path / "rows.csv"
    duckdb.sql(f"COPY (SELECT * FROM read_json('{jsonl}')) TO '{parquet}' (FORMAT parquet)")
    lines = ["question,choices,label"]
    for row in rows:
        cell = json.dumps(row["choices"]).replace('"', '""')
        lines.append(f'{row["question"]},"{cell}",{row["label"]}')
    csv.write_text("\n".join(lines) + "\n")
    found = [read_task(file_task("t", path)) for path in (jsonl, parquet, csv)]
    assert found[0].examples == found[1].examples == found[2].examples
    assert len({rows.fingerprint for rows in found}) == 1
    assert found[0].examples[1].prompt == "t question 1?\nA. x1\nB. y1\nC. z1\nAnswer:"
    assert found[0].examples[1].answer == "B"
    assert found[0].origins[1] == f"{jsonl}:2"
    assert found[1].origins[1] == f"{parquet} row 2"


def test_prompt_and_answer_rows(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"prompt": "Once upon", "answer": "a time"}])
    example = read_task(file_task("t", path)).examples[0]
    assert (example.plain_prompt, example.plain_answer) == ("Once upon", " a time")


def test_question_and_answer_rows(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"question": "Who?", "answer": "Me"}])
    assert read_task(file_task("t", path)).examples[0].prompt == "Who?\nAnswer:"


def test_own_template(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"src": "chat", "n": 2, "dst": "cat", "extra": None}])
    task = file_task("t", path, prompt="{{fr}} {src} +{n} =", answer="{dst}")
    example = read_task(task).examples[0]
    assert (example.prompt, example.answer) == ("{fr} chat +2 =", "cat")


def test_own_template_over_options_with_numbers(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", choice_rows(2))
    task = file_task("t", path, prompt="Q {question}\n{options}\nA", numbering="numbers")
    example = read_task(task).examples[1]
    assert (example.prompt, example.answer) == ("Q t question 1?\n1. x1\n2. y1\n3. z1\nA", "2")


@pytest.mark.parametrize("prompt", ["{a.b}", "{a[0]}", "{}", "{0}", "{a!r}", "{a:>9}", "{a", "no column"])
def test_bad_templates(tmp_path: Path, prompt: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        file_task("t", tmp_path, prompt=prompt)
    assert caught.value.kind is ErrorKind.BAD_TASK


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "malformed JSON"),
        ("[1]", "a list, not a JSON object"),
        ("3", "a int, not a JSON object"),
        ('{"prompt": "x"}', "no column 'answer'"),
        ('{"prompt": null, "answer": "x"}', "'prompt' is null"),
        ('{"prompt": "x", "answer": [1]}', "holds a list, not text"),
        ('{"prompt": "x", "answer": " "}', "the answer is empty"),
        ('{"prompt": " ", "answer": "x"}', "the prompt is empty"),
        ('{"question": "x", "choices": ["a", "b"], "label": "C"}', "'C' is not one of ['A', 'B']"),
        ('{"question": "x", "choices": ["a", "b"], "label": 2}', "there are 2 options"),
        ('{"question": "x", "choices": ["a", "b"]}', "no column 'label'"),
        ('{"question": "x", "choices": [["a"], "b"], "label": 0}', "not a list of texts"),
        ('{"question": "x", "choices": "a|b", "label": 0}', "not a JSON list"),
        (json.dumps({"question": "x", "choices": ["a"] * 27, "label": 0}), "only 26 letters"),
        ("[" * 100_000, "malformed JSON"),
    ],
)
def test_bad_rows_name_file_and_line(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "x", "answer": "y"}\n\n' + line + "\n")
    message = bad_task_message(file_task("t", path))
    assert message.startswith(f"{path}:3: ")
    assert reason in message


def test_lines_are_read_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    text = "q\"'\\ , ; | \t tab \u2028 \x85 ☃ " + "long " * 50_000
    path.write_bytes(
        b"\xef\xbb\xbf" + json.dumps({"prompt": text, "answer": 1.5}).encode() + b"\r\n\r\n"
        b'{"prompt":"last","answer":"no newline"}'
    )
    rows = list(read_rows(path))
    assert [row.columns for row in rows] == [
        {"prompt": text, "answer": 1.5},
        {"prompt": "last", "answer": "no newline"},
    ]
    assert rows[1].origin == f"{path}:3"


def test_glob_characters_in_a_name_are_literal(tmp_path: Path) -> None:
    folder = tmp_path / "k=v"
    folder.mkdir()
    write_jsonl(folder / "a1.jsonl", [{"prompt": "wrong", "answer": "x"}])
    path = write_jsonl(folder / "a[1]*?.jsonl", [{"prompt": "right", "answer": "x"}])
    (row,) = read_rows(path)
    assert row.columns == {"prompt": "right", "answer": "x"}


def test_limits(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", choice_rows(5))
    assert "more than 4 rows" in bad_task_message(file_task("t", path), limits=RowLimits(max_rows=4))
    assert "the limit is 10" in bad_task_message(file_task("t", path), limits=RowLimits(max_file_bytes=10))
    long = write_jsonl(tmp_path / "long.jsonl", [{"prompt": "x" * 100_000, "answer": "x"}])
    assert str(long) in bad_task_message(file_task("t", long), limits=RowLimits(max_row_bytes=1000))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", b"", "no rows"),
        ("a.jsonl", b"\n\n", "no rows"),
        ("a.txt", b"x", "unknown kind of file"),
        ("a.parquet", b"not parquet at all", "a.parquet"),
        ("a.jsonl", b'{"prompt": "\xff\xfe", "answer": "x"}\n', "a.jsonl"),
    ],
)
def test_files_that_hold_no_rows(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert reason in bad_task_message(file_task("t", path))


def test_a_missing_file(tmp_path: Path) -> None:
    assert "no such file" in bad_task_message(file_task("t", tmp_path / "a.jsonl"))


# -- splits -------------------------------------------------------------------------------------------


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


# -- identity -----------------------------------------------------------------------------------------


def test_fingerprint_is_of_content(tmp_path: Path) -> None:
    rows = choice_rows(20)

    def fingerprint(name: str, rows: list[dict[str, Any]], **kwargs: Any) -> str:
        return read_task(file_task(name, write_jsonl(tmp_path / f"{name}.jsonl", rows), **kwargs)).fingerprint

    base = fingerprint("a", rows)
    assert base == fingerprint("b", random.Random(3).sample(rows, len(rows)))
    assert base == fingerprint("c", [{**row, "id": "other", "extra": 1} for row in rows])
    changed = [*rows[:-1], {**rows[-1], "label": (rows[-1]["label"] + 1) % 3}]
    others = [
        fingerprint("d", rows[:-1]),
        fingerprint("e", [*rows, rows[0]]),
        fingerprint("f", changed),
        fingerprint("g", rows, numbering="numbers"),
        fingerprint("h", rows, prompt="{question} {options}"),
        fingerprint("i", [{**row, "split": "test"} for row in rows]),
    ]
    assert len({base, *others}) == len(others) + 1


def test_fingerprint_stays(tmp_path: Path) -> None:
    """Scores are kept under it: a change here makes every stored score unreachable."""
    path = write_jsonl(tmp_path / "rows.jsonl", choice_rows(3))
    found = read_task(with_source(builtin_task("piqa"), path))
    assert found.fingerprint == "e7c40e411cf523f5027eb15a4a8c16e366c99fa05151eac71e977eb4cfe56d48"


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


# -- definitions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(BUILTIN_TASKS))
def test_definitions_survive_json(name: str) -> None:
    task = builtin_task(name)
    for kept in (task, with_source(task, Path("/x/y.jsonl"), split="test")):
        assert task_from_dict(json.loads(json.dumps(task_to_dict(kept)))) == kept


@pytest.mark.parametrize("value", [{}, {"name": "x"}, {"name": "x", "source": 3}, {"source": {}}])
def test_bad_definitions(value: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        task_from_dict(value)
    assert caught.value.kind is ErrorKind.BAD_TASK


@pytest.mark.parametrize(
    "change", [{"name": "../x"}, {"name": ""}, {"columns": "nothing"}, {"splits": ()}, {"name": "a b"}]
)
def test_bad_tasks(change: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"name": "t", "template": Template(), "source": HubSource("a/b")}
    with pytest.raises(InvalidInputError):
        Task(**(fields | change))


def test_all_normalised_rows_render(task_folder: Path) -> None:
    for name, splits in {
        "arc_easy": ("train", "test"),
        "commonsenseqa": ("train", "validation"),
        "hellaswag": ("validation",),
        "piqa": ("validation",),
        "winogrande": ("train", "validation"),
        "gsm8k": ("train", "test"),
    }.items():
        task = with_source(builtin_task(name), task_folder)
        assert isinstance(task.source, FileSource)
        for split in splits:
            assert len(read_task(task, split=split).examples) > 1000
        assert read_task(task).substituted == ("train" not in splits)
