"""Which checkpoints take part in a ranking."""

from __future__ import annotations

import itertools
import json

import pytest
from lora_adapters import write_adapter
from tiny_checkpoints import weights

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError, NotFoundError
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.repo import init_repository
from deltavcs.signature import Signature
from deltavcs.steps.naming import name_of
from deltavcs.steps.recording import Draft
from deltavcs.steps.selecting import Selection, select
from deltavcs.testing.checkpoints import fine_tuned, write_checkpoint


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """A base; fine-tunes for piqa and arc; an adapter; a checkpoint without config.json. Only read."""
    tmp_path = tmp_path_factory.mktemp("history")
    repo = init_repository(tmp_path / "repo", sync=False)
    clock = itertools.count(1_700_000_000_000_000)

    def sign():
        return Signature("tester", next(clock))

    config = {"config.json": json.dumps({"model_type": "toy"}).encode()}
    import_base(
        repo,
        str(write_checkpoint(tmp_path / "base", weights(), files=config)),
        draft=Draft("base", signature=sign()),
    )
    sources = {
        "piqa": write_checkpoint(tmp_path / "piqa", fine_tuned(weights(), seed=1), files=config),
        "arc": write_checkpoint(tmp_path / "arc", fine_tuned(weights(), seed=2), files=config),
        "bare": write_checkpoint(tmp_path / "bare", fine_tuned(weights(), seed=3)),
        "lora": write_adapter(tmp_path / "lora"),
    }
    for name, source in sources.items():
        task = name if name in ("piqa", "arc") else None
        commit(repo, str(source), base="base", draft=Draft(name, task=task, signature=sign()))
    return repo


def names(repo, **selection):
    return {name_of(repo, c.commit) for c in select(repo, Selection(**selection)).candidates}


@pytest.mark.parametrize(
    ("selection", "chosen"),
    [
        ({}, {"base", "piqa", "arc"}),
        ({"bases": False}, {"piqa", "arc"}),
        ({"adapters": True}, {"lora"}),
        ({"adapters": True, "base": "base"}, {"lora"}),
        ({"base": "arc"}, {"arc"}),
        ({"exclude_tasks": ("arc",)}, {"base", "piqa"}),
        ({"where": "task = 'piqa' OR kind = 'base'"}, {"base", "piqa"}),
        ({"where": "kind = 'finetune' -- all of them", "exclude_tasks": ("piqa",)}, {"arc"}),
    ],
)
def test_what_takes_part(history, selection, chosen):
    assert names(history, **selection) == chosen


def test_what_cannot_be_evaluated_is_told_and_what_is_left_out_counted(history):
    found = select(history, Selection(bases=False))
    assert [(one.name, one.why) for one in found.unusable] == [
        ("bare", "it has no config.json, so its architecture is not known")
    ]
    assert found.n_excluded == 2  # the base and the adapter


def test_nothing_is_left(history):
    with pytest.raises(NotFoundError) as caught:
        select(history, Selection(where="false"))
    assert (caught.value.kind, caught.value.advice) == (ErrorKind.UNKNOWN_REVISION, Advice.WIDEN_SELECTION)


@pytest.mark.parametrize("where", ["nonsense = 1", "true); DROP TABLE commits; --", ""])
def test_a_condition_that_is_none(history, where):
    with pytest.raises(InvalidInputError) as caught:
        select(history, Selection(where=where))
    assert caught.value.kind is ErrorKind.BAD_SQL
    assert names(history) == {"base", "piqa", "arc"}
