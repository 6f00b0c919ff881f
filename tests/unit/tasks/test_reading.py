"""From a task to its rows, from files and from the Hub; and that a bad row is never skipped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hub_stand_in import HubStandIn, jsonl
from task_rows import GOOD, bad_task_message, choice_rows, refused, write_jsonl

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, NotFoundError
from deltavcs.storage.hub_client import HubOptions
from deltavcs.tasks.catalog import BUILTIN_TASKS
from deltavcs.tasks.definition import FileSource, HubSource, Task, file_task, with_source
from deltavcs.tasks.reading import read_task
from deltavcs.tasks.row_lines import RowLimits
from deltavcs.tasks.template import Template


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
        ("[" * 100_000, "too many levels"),
    ],
)
def test_bad_rows_name_file_and_line(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "x", "answer": "y"}\n\n' + line + "\n")
    message = bad_task_message(file_task("t", path))
    assert message.startswith(f"{path}:3: ")
    assert reason in message


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"prompt": "a \ud800 b", "answer": "x"}, "prompt"),
        ({"prompt": "x", "answer": "\udc00"}, "answer"),
        ({"question": "x", "choices": ["a", "\ud83d"], "label": 0}, "prompt"),
    ],
)
def test_half_a_surrogate_pair_is_a_bad_row(tmp_path: Path, row: dict[str, object], name: str) -> None:
    path = tmp_path / "t.jsonl"
    error = refused(path, GOOD + json.dumps(row).encode() + b"\n")
    assert str(error).startswith(f"{path}:2: the {name} holds \\ud")
    str(error).encode()  # can be printed


def test_a_whole_surrogate_pair_is_a_character(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"prompt": "\\ud83d\\ude00", "answer": "x"}')
    assert read_task(file_task("t", path)).examples[0].prompt == "😀"


def test_half_a_surrogate_pair_is_no_split(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", [{"prompt": "x", "answer": "y"}])
    message = bad_task_message(file_task("t", path, split="\ud800"), split="\ud800")
    assert message.startswith("task t: the split's name holds \\ud800")


def test_a_missing_file(tmp_path: Path) -> None:
    assert "no such file" in bad_task_message(file_task("t", tmp_path / "a.jsonl"))


def test_all_normalised_rows_render(task_folder: Path) -> None:
    for name, splits in {
        "arc_easy": ("train", "test"),
        "commonsenseqa": ("train", "validation"),
        "hellaswag": ("validation",),
        "piqa": ("validation",),
        "winogrande": ("train", "validation"),
        "gsm8k": ("train", "test"),
    }.items():
        task = with_source(BUILTIN_TASKS[name], task_folder)
        assert isinstance(task.source, FileSource)
        for split in splits:
            assert len(read_task(task, split=split).examples) > 1000
        assert read_task(task).substituted == ("train" not in splits)


def test_the_limit_of_rows_is_of_all_files_together(tmp_path: Path) -> None:
    for i in range(2):
        write_jsonl(tmp_path / f"train-{i}.jsonl", choice_rows(3))
    assert len(read_task(file_task("t", tmp_path), limits=RowLimits(max_rows=6)).examples) == 6
    message = bad_task_message(file_task("t", tmp_path), limits=RowLimits(max_rows=5))
    assert message == f"{tmp_path}/train-1.jsonl:3: more than 5 rows"


# -- the Hub ------------------------------------------------------------------------------------------


ROW = {"goal": "g", "sol1": "a", "sol2": "b", "label": 1}


def test_rows_from_the_hub(hub: HubOptions) -> None:
    HubStandIn.repos["allenai/ai2_arc"] = {
        "main": {
            "README.md": b"#",
            "ARC-Challenge/train-00000-of-00001.jsonl": jsonl({"wrong": 1}),
            "ARC-Easy/test-00000-of-00001.jsonl": jsonl({"wrong": 1}),
            "ARC-Easy/train-00001-of-00002.jsonl": jsonl(
                {"question": "q2", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"}
            ),
            "ARC-Easy/train-00000-of-00002.jsonl": jsonl(
                {"question": "q1", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"}
            ),
        }
    }
    found = read_task(BUILTIN_TASKS["arc_easy"], hub=hub)
    assert (found.split, found.substituted) == ("train", False)
    assert ["q1" in e.prompt for e in found.examples] == [True, False]
    HubStandIn.down = True
    offline = HubOptions(endpoint=hub.endpoint, cache_dir=hub.cache_dir, offline=True)
    assert read_task(BUILTIN_TASKS["arc_easy"], hub=offline) == found


def test_script_datasets_come_from_the_conversion(hub: HubOptions) -> None:
    HubStandIn.repos["ybisk/piqa"] = {
        "main": {"piqa.py": b"raise SystemExit", "README.md": b"#"},
        "refs/convert/parquet": {"plain_text/validation/0000.jsonl": jsonl(ROW)},
    }
    found = read_task(BUILTIN_TASKS["piqa"], hub=hub)
    assert (found.split, found.substituted) == ("validation", True)


def test_a_pinned_revision(hub: HubOptions) -> None:
    HubStandIn.repos["a/b"] = {
        "main": {"data/train.jsonl": jsonl({"prompt": "new", "answer": "x"})},
        "v1": {"data/train.jsonl": jsonl({"prompt": "old", "answer": "x"})},
    }
    task = Task("t", Template(), HubSource("a/b", revision="v1"))
    assert read_task(task, hub=hub).examples[0].prompt == "old"


def test_a_dataset_without_rows(hub: HubOptions) -> None:
    HubStandIn.repos["a/b"] = {"main": {"README.md": b"#"}}
    task = Task("t", Template(), HubSource("a/b"))
    for options in (hub, HubOptions(cache_dir=hub.cache_dir, offline=True)):
        with pytest.raises(NotFoundError) as caught:
            read_task(task, hub=options)
        assert caught.value.kind is ErrorKind.UNKNOWN_SOURCE
        assert caught.value.advice is Advice.ADD_ROWS_FILE
        assert "no parquet, jsonl or csv file for train or validation or test" in str(caught.value)
