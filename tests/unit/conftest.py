"""Rows of all kinds, a real model and real tasks where they are at hand, a stand-in Hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deltavcs.storage.hub_client import HubOptions
from deltavcs.tasks.template import Example

SHARED = Path(__file__).resolve().parents[3] / "shared"
STORIES = SHARED / "data/models/stories260k"
TASKS = SHARED / "data/tasks"


@pytest.fixture
def examples() -> list[Example]:
    texts = [
        ("Question: which is red?\nA. blood\nB. grass", "A"),
        ("Which is longer, and why would anyone ask for it?\nA. a mile\nB. an inch\nC. a foot", "B"),
        ("2 + 2", "It is four.\n#### 4"),
        ("Say yes", "yes"),
        ("Question: what is it that is asked here again and again?\nA. one\nB. two", "one or two"),
        ("x", "B"),
        ("Ünïcode — “quotes”", "naïve ☃"),
    ]
    return [Example(prompt=prompt, answer=answer) for prompt, answer in texts]


@pytest.fixture(scope="session")
def stories() -> tuple[Any, Any]:
    """The real model and tokenizer; skipped where they are absent."""
    if not STORIES.is_dir():
        pytest.skip("stories260k is not at hand")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(STORIES).eval(), AutoTokenizer.from_pretrained(STORIES)


@pytest.fixture(scope="session")
def task_folder() -> Path:
    if not TASKS.is_dir():
        pytest.skip("the normalised rows are not at hand")
    return TASKS


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubOptions]:
    """How to reach `hub_stand_in.HubStandIn`, which serves what a test puts into its `repos`."""
    from hub_stand_in import serving

    with serving() as endpoint:
        yield HubOptions(endpoint=endpoint, cache_dir=tmp_path / "cache")
