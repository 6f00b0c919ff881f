"""One row of every built-in task, written by hand: in the dataset's own columns, and normalised."""

from __future__ import annotations

from typing import Any

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
