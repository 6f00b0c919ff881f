"""Rows with each dataset's original columns, written by hand, and what is asked of them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from deltavcs.errors import ErrorKind, InvalidInputError, NotFoundError
from deltavcs.objects.canonical import encode_json
from deltavcs.oid import hash_bytes
from deltavcs.tasks.dataset_table import BUILTIN_TASKS, builtin_task
from deltavcs.tasks.definition import HubSource, example_id, fingerprint_rows, render_row, task_to_dict

ORIGINAL: dict[str, dict[str, Any]] = {
    "arc_easy": {
        "id": "Mercury_1",
        "question": "Which object gives off its own light?",
        "choices": {"text": ["the Moon", "the Sun", "Mars", "a comet"], "label": ["A", "B", "C", "D"]},
        "answerKey": "B",
    },
    "commonsenseqa": {
        "id": "0a1",
        "question": "Where would you keep milk cold?",
        "question_concept": "milk",
        "choices": {
            "label": ["A", "B", "C", "D", "E"],
            "text": ["oven", "shelf", "garden", "refrigerator", "car"],
        },
        "answerKey": "D",
    },
    "hellaswag": {
        "ind": 7,
        "activity_label": "Baking bread",
        "ctx_a": "A woman kneads dough on a table.",
        "ctx_b": "she",
        "ctx": "A woman kneads dough on a table. she",
        "endings": ["puts it in a tin.", "rides a horse.", "paints a wall.", "swims away."],
        "source_id": "activitynet~1",
        "split": "train",
        "split_type": "indomain",
        "label": "0",
    },
    "mathqa": {
        "Problem": "a train covers 120 km in 2 hours . what is its speed ?",
        "Rationale": "speed = 120 / 2 = 60",
        "options": "a ) 40 km / hr , b ) 50 km / hr , c ) 60 km / hr , d ) 1 , 000 m , e ) none of these",
        "correct": "c",
        "annotated_formula": "divide(120, 2)",
        "linear_formula": "divide(n0,n1)|",
        "category": "physics",
    },
    "openbookqa": {
        "id": "8-1",
        "question_stem": "A plant needs light to",
        "choices": {"text": ["bark", "grow", "fly", "sing"], "label": ["A", "B", "C", "D"]},
        "answerKey": "B",
    },
    "piqa": {
        "goal": "To dry wet shoes quickly,",
        "sol1": "stuff them with newspaper.",
        "sol2": "put them in the freezer.",
        "label": 0,
    },
    "socialiqa": {
        "context": "Ana lent Ben her bicycle.",
        "question": "How would Ben feel?",
        "answerA": "angry",
        "answerB": "bored",
        "answerC": "grateful",
        "label": "3",
    },
    "winogrande": {
        "sentence": "The cup did not fit in the box because the _ was too big.",
        "option1": "cup",
        "option2": "box",
        "answer": "1",
    },
    "gsm8k": {"question": "Tom has 2 apples and buys 3. How many?", "answer": "2 + 3 = <<2+3=5>>5\n#### 5"},
}

# The same content as normalised rows have it: question, choices, position of the answer.
NORMALISED: dict[str, tuple[str, list[str], int]] = {
    "arc_easy": ("Which object gives off its own light?", ["the Moon", "the Sun", "Mars", "a comet"], 1),
    "commonsenseqa": (
        "Where would you keep milk cold?",
        ["oven", "shelf", "garden", "refrigerator", "car"],
        3,
    ),
    "hellaswag": (
        "Baking bread: A woman kneads dough on a table. She",
        ["puts it in a tin.", "rides a horse.", "paints a wall.", "swims away."],
        0,
    ),
    "mathqa": (
        "a train covers 120 km in 2 hours . what is its speed ?",
        ["40 km / hr", "50 km / hr", "60 km / hr", "1 , 000 m", "none of these"],
        2,
    ),
    "openbookqa": ("A plant needs light to", ["bark", "grow", "fly", "sing"], 1),
    "piqa": ("To dry wet shoes quickly,", ["stuff them with newspaper.", "put them in the freezer."], 0),
    "socialiqa": ("Ana lent Ben her bicycle. How would Ben feel?", ["angry", "bored", "grateful"], 2),
    "winogrande": (
        "The cup did not fit in the box because the _ was too big.",
        ["cup", "box"],
        0,
    ),
}
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
    example = render_row(builtin_task(name), ORIGINAL[name], origin="row 1")
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
    normal = render_row(builtin_task(name), {**row, "label": position}, origin="row 1")
    assert normal == render_row(builtin_task(name), ORIGINAL[name], origin="row 1")


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
    task = builtin_task(name)
    kept = hash_bytes("task", encode_json(task_to_dict(task)))
    row_id = example_id(render_row(task, ORIGINAL[name], origin="row 1"))
    assert (kept, fingerprint_rows([row_id], task.template, "train")) == PINNED[name]


def test_gsm8k_asks_for_the_worked_solution() -> None:
    example = render_row(builtin_task("gsm8k"), ORIGINAL["gsm8k"], origin="row 1")
    assert example.prompt.endswith("Problem: Tom has 2 apples and buys 3. How many?")
    assert example.answer == "2 + 3 = <<2+3=5>>5\n#### 5"
    assert example.plain_prompt.endswith("How many?\nSolution:")


def test_arc_keeps_the_numbers_of_rows_that_have_them() -> None:
    row = {
        "question": "Which is a gas?",
        "choices": {"text": ["iron", "oxygen", "salt"], "label": ["1", "2", "3"]},
        "answerKey": "2",
    }
    example = render_row(builtin_task("arc_easy"), row, origin="row 1")
    assert example.prompt.endswith("1. iron\n2. oxygen\n3. salt")
    assert example.answer == "2"


def test_hellaswag_drops_wikihow_marks() -> None:
    row = {
        "activity_label": "Health",
        "ctx_a": "[header] How to rest [title] Lie down. [step] Close your eyes.",
        "ctx_b": "",
        "endings": ["[substeps] Breathe. [title] Sleep.", "Run.", "Shout.", "Dig."],
        "label": "1",
    }
    example = render_row(builtin_task("hellaswag"), row, origin="row 1")
    assert "Start: Health: How to rest. Lie down. Close your eyes.\n" in example.prompt
    assert "A. Breathe.. Sleep.\n" in example.prompt
    assert "[" not in example.prompt


@pytest.mark.parametrize(
    "options",
    [
        "a ) 1 , b ) 2 , c ) 3 , d ) 4 , e ) 5",
        "a) 1, b) 2, c) 3, d) 4, e) 5",
        "['a ) 1', 'b ) 2', 'c ) 3', 'd ) 4', 'e ) 5']",
        "['1', '2', '3', '4', '5']",
    ],
)
def test_mathqa_options_in_every_spelling(options: str) -> None:
    row = {"Problem": "p ?", "options": options, "correct": "e"}
    example = render_row(builtin_task("mathqa"), row, origin="row 1")
    assert example.prompt.endswith("A. 1\nB. 2\nC. 3\nD. 4\nE. 5")
    assert example.answer == "E"


def test_mathqa_brackets_and_commas_stay_inside_their_option() -> None:
    row = {"Problem": "p ?", "options": "a ) 2 ( n ) , b ) f ( x , d ) 3 , c ) 1 , 000", "correct": "b"}
    example = render_row(builtin_task("mathqa"), row, origin="row 1")
    assert example.prompt.endswith("A. 2 ( n )\nB. f ( x , d ) 3\nC. 1 , 000")


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
        render_row(builtin_task(name), {**ORIGINAL[name], **change}, origin="rows.jsonl:17")
    assert caught.value.kind is ErrorKind.BAD_TASK
    assert str(caught.value).startswith("rows.jsonl:17: ")
    assert reason in str(caught.value)


@pytest.mark.parametrize("name", sorted(ORIGINAL))
def test_a_missing_column_is_named(name: str) -> None:
    for column in ORIGINAL[name]:
        row = {key: value for key, value in ORIGINAL[name].items() if key != column}
        try:
            render_row(builtin_task(name), row, origin="f:1")
        except InvalidInputError as exc:
            assert repr(column) in str(exc)


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(NotFoundError) as caught:
        builtin_task("trivia")
    assert "piqa" in (caught.value.hint or "")
