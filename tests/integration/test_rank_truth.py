"""Ranking finds what it should: fine-tunes on one half of real tasks, ranked on the other half.

A language model of 260 thousand parameters, real rows. Skipped where the data is not at hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from toys import STORIES, TASKS, train, write_rows

from deltavcs.evaluation.encode import encode_examples
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.rank import Ranking, rank
from deltavcs.porcelain.task import Wording, add_task
from deltavcs.repo import Repository, init_repository
from deltavcs.signature import Signature
from deltavcs.steps.recording import Draft
from deltavcs.steps.running import Running
from deltavcs.tasks.definition import file_task
from deltavcs.tasks.reading import read_task

pytestmark = [
    pytest.mark.skipif(not (STORIES.is_dir() and TASKS.is_dir()), reason="the real data is not at hand"),
    pytest.mark.timeout(900),
]

FILES = {
    "arc_easy": "arc_easy_train",
    "commonsenseqa": "commonsenseqa_train",
    "gsm8k": "gsm8k_train",
    "hellaswag": "hellaswag_validation",
    "piqa": "piqa_validation",
    "winogrande": "winogrande_train",
}
SIGN = Signature("tester", 1)
N_ROWS, STEPS, BATCH, RATE = 600, 90, 8, 2e-3


def template(task: str) -> dict[str, str]:
    """Short prompts, to keep training short."""
    if task == "gsm8k":
        return {"prompt": "{question}", "answer": "{answer}"}
    return {"prompt": "{question}\n{options}", "answer": "{answer}"}


def halves(task: str, folder: Path) -> tuple[Path, Path]:
    """The shortest rows, every other one."""
    lines = (TASKS / f"{FILES[task]}.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    short = sorted(rows, key=lambda r: (len(json.dumps(r)), json.dumps(r)))[:N_ROWS]
    kept = [{k: v for k, v in r.items() if k not in ("split", "task", "id")} for r in short]
    if task == "gsm8k":
        kept = [{**r, "answer": str(r["answer"]).rpartition("####")[2].strip()} for r in kept]
    return write_rows(folder / f"{task}_a.jsonl", kept[::2]), write_rows(
        folder / f"{task}_b.jsonl", kept[1::2]
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Repository:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    root = tmp_path_factory.mktemp("truth")
    repo = init_repository(root / "repo", sync=False)
    import_base(repo, str(STORIES), draft=Draft("stories", signature=SIGN))
    tokenizer = AutoTokenizer.from_pretrained(STORIES)
    for task in FILES:
        ours, others = halves(task, root)
        add_task(
            repo, task, others, signature=SIGN, wording=Wording(**template(task), numbering=numbering(task))
        )
        rows = read_task(file_task(task, ours, **template(task), numbering=numbering(task)))
        model: Any = AutoModelForCausalLM.from_pretrained(STORIES)
        samples = encode_examples(rows.examples, tokenizer, max_length=256)
        train(model, samples, steps=STEPS, batch=BATCH, lr=RATE)
        model.save_pretrained(root / task)
        tokenizer.save_pretrained(root / task)
        commit(repo, str(root / task), base="stories", draft=Draft(task, task=task, signature=SIGN))
    return repo


def numbering(task: str) -> str:
    """Labels as in the built-in tasks."""
    return "numbers" if task == "winogrande" else "letters"


def shown(ranking: Ranking) -> str:
    return ", ".join(f"{r.name} {r.loss:.4f}" for r in ranking.ranked)


# One test for all, so that no two workers train the same models.
def test_the_checkpoint_of_each_task_ranks_first(trained: Repository) -> None:
    rankings = {task: rank(trained, task, running=Running(samples=64)) for task in FILES}
    assert not {task: shown(found) for task, found in rankings.items() if found.ranked[0].name != task}
