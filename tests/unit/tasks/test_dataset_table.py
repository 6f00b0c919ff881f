"""Every built-in task: its place on the Hub, its wording, and that what is stored of it stays."""

from __future__ import annotations

import re
from typing import Any

import pytest
from dataset_rows import NORMALISED, ORIGINAL

from deltavcs.canonical import encode_json
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.oid import hash_bytes
from deltavcs.tasks.catalog import BUILTIN_TASKS
from deltavcs.tasks.definition import HubSource, task_to_dict
from deltavcs.tasks.fingerprint import example_id, fingerprint_rows
from deltavcs.tasks.reading import render_row

NUMBERED = {"socialiqa", "winogrande"}


def test_the_nine_are_built_in() -> None:
    assert set(BUILTIN_TASKS) == set(ORIGINAL)
    assert {
        (t.source.repo_id, t.source.config) for t in BUILTIN_TASKS.values() if isinstance(t.source, HubSource)
    } == {
        ("allenai/ai2_arc", "ARC-Easy"),
        ("tau/commonsense_qa", None),
        ("Rowan/hellaswag", None),
        ("allenai/math_qa", None),
        ("allenai/openbookqa", "main"),
        ("ybisk/piqa", None),
        ("allenai/social_i_qa", None),
        ("allenai/winogrande", "winogrande_xl"),
        ("openai/gsm8k", "main"),
    }


@pytest.mark.parametrize("name", sorted(NORMALISED))
def test_multiple_choice_prompt_is_well_formed(name: str) -> None:
    question, choices, position = NORMALISED[name]
    example = render_row(BUILTIN_TASKS[name], ORIGINAL[name], origin="row 1")
    labels = [str(i + 1) if name in NUMBERED else "ABCDE"[i] for i in range(len(choices))]
    instruction, asked, listed = example.prompt.split("\n\n")
    assert instruction.endswith(" of the best option and nothing else.")
    assert ("number" if name in NUMBERED else "letter") in instruction
    assert re.fullmatch(rf"[A-Z][a-z]+: {re.escape(question)}", asked)
    assert listed.split("\n") == ["Options:", *(f"{a}. {b}" for a, b in zip(labels, choices, strict=True))]
    assert example.answer == labels[position]
    assert example.plain_prompt.endswith("\nAnswer:")
    assert example.plain_answer == f" {labels[position]}"


@pytest.mark.parametrize("name", sorted(NORMALISED))
def test_normalised_rows_give_the_same_prompt(name: str) -> None:
    question, choices, position = NORMALISED[name]
    row = {"id": "1", "task": name, "split": "train", "question": question, "choices": choices}
    normal = render_row(BUILTIN_TASKS[name], {**row, "label": position}, origin="row 1")
    assert normal == render_row(BUILTIN_TASKS[name], ORIGINAL[name], origin="row 1")


# Id of the task object, and the fingerprint of the one row above: written before the datasets had files of
# their own, and never to change. Scores are kept under the second.
PINNED = {
    "arc_easy": (
        "19e8d52a82eb17a4931759de67f798a74f6e1b54e0b617970fc53198ec975d81",
        "b53b468267f385b8a0b173fa533e882e982cd3cbc91f9150524ac4af11394085",
    ),
    "commonsenseqa": (
        "263803bacc89301e52be9ff88c20ccdbe52951fec3368f72c5351f5ab732cb79",
        "ab67e3a7b2615e7f339ae58ea9bfef1a7185a272d331c5f33ff5176ef25e0a6f",
    ),
    "gsm8k": (
        "3b4c480d11b3a6b0be863a5d817715e85926d3d33da068c4c522420a38e1f8b8",
        "d501d14f5666377f3096db1e6b1163f688b0e7af3f616544a97f7b18ba5fb7d3",
    ),
    "hellaswag": (
        "0705c9288bafb2ce16b3efa733fca5806c0ebeeeb0a4c3da4b8c24d62bcb8229",
        "ce4523c4aac3835925d01df90dbdaf424e8a195b4d6170d2bc359bfce70e2846",
    ),
    "mathqa": (
        "eb41b5e439eaf4f4a9ea5adbf29f6ed42b5b0f5dd101b1a8c884c452e6f2fea3",
        "6906527d3837c86127c27a4e9a17d022296c905af4552522e53a50ebaff980eb",
    ),
    "openbookqa": (
        "75ddf78b3724a85bf215019b52c106867ad1bf6ddb02930d74da5a7376530dad",
        "88011908bec5001f66ef773031bbfee21b8f3807ede4d54fb361b1ad47e2eefe",
    ),
    "piqa": (
        "53f7ee27056cb5d88a5a0bb843fe146cb36fb344d0e96b575cc2bb418c827639",
        "0fdbd136c33e48fbdd2ea06b60ae00b9602c43545c642c4d8b77be68cbd641d3",
    ),
    "socialiqa": (
        "a181f50ac12561a435fc8c922189e77524561241e45c634d6576eecdceb63e7d",
        "e028108c3d5cc32c89876f249ef7c393f9ca80713953893b786422057d74e25a",
    ),
    "winogrande": (
        "b4a3134dc02e34a5426945b1d2fa835df300b40ab2228250f5acc9999fd41dfc",
        "ec462a8828927bc5a0a16c8aee0cae3fc34d1eab43579f14f6958411b245f18b",
    ),
}


@pytest.mark.parametrize("name", sorted(ORIGINAL))
def test_definitions_and_fingerprints_stay(name: str) -> None:
    task = BUILTIN_TASKS[name]
    kept = hash_bytes("task", encode_json(task_to_dict(task)))
    row_id = example_id(render_row(task, ORIGINAL[name], origin="row 1"))
    assert (kept, fingerprint_rows([row_id], task.template, "train")) == PINNED[name]


BAD = [
    ("arc_easy", {"answerKey": "Z"}, "'Z' is not one of"),
    ("arc_easy", {"answerKey": ""}, "label is empty"),
    ("arc_easy", {"answerKey": None}, "'answerKey' is null"),
    ("arc_easy", {"question": " "}, "question is empty"),
    ("arc_easy", {"choices": {"text": ["one"], "label": ["A"]}}, "1 options"),
    ("arc_easy", {"choices": {"text": ["x", "y"], "label": ["A", "A"]}}, "labels must differ"),
    ("arc_easy", {"choices": {"text": ["x", "y"], "label": ["A"]}}, "2 options but 1 labels"),
    ("arc_easy", {"choices": "nothing"}, "not a record"),
    ("commonsenseqa", {"answerKey": ""}, "may have no answers"),
    ("hellaswag", {"label": ""}, "label is empty"),
    ("hellaswag", {"label": "4"}, "there are 4 options"),
    ("hellaswag", {"endings": None}, "not a list"),
    ("mathqa", {"options": "10, 20, 30"}, "options do not read"),
    ("mathqa", {"correct": "f"}, "'f' is not one of"),
    ("openbookqa", {"question_stem": 3.5, "choices": []}, "not a record"),
    ("piqa", {"label": -1}, "label is -1"),
    ("piqa", {"label": True}, "neither a label nor a position"),
    ("socialiqa", {"label": "4"}, "from 1 to 3"),
    ("winogrande", {"answer": ""}, "may have no answers"),
    ("gsm8k", {"answer": None}, "'answer' is null"),
    ("gsm8k", {"answer": "  "}, "answer is empty"),
]


@pytest.mark.parametrize(("name", "change", "reason"), BAD)
def test_bad_rows_say_where_and_why(name: str, change: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        render_row(BUILTIN_TASKS[name], {**ORIGINAL[name], **change}, origin="rows.jsonl:17")
    assert caught.value.kind is ErrorKind.BAD_TASK
    assert str(caught.value).startswith("rows.jsonl:17: ")
    assert reason in str(caught.value)


@pytest.mark.parametrize("name", sorted(ORIGINAL))
def test_a_missing_column_is_named(name: str) -> None:
    for column in ORIGINAL[name]:
        row = {key: value for key, value in ORIGINAL[name].items() if key != column}
        try:
            render_row(BUILTIN_TASKS[name], row, origin="f:1")
        except InvalidInputError as exc:
            assert repr(column) in str(exc)
