"""Choosing among what is near: bases first, copies once, and a question where two fit."""

from __future__ import annotations

import pytest
from tiny_checkpoints import weights

from deltavcs.advice import Advice
from deltavcs.checkpoint.source import open_checkpoint
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.steps.nearest import nearest_base
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import fine_tuned, raw_tensor, write_checkpoint


def near(repo, folder, tensors):
    with open_checkpoint(write_checkpoint(folder, tensors)) as checkpoint:
        return nearest_base(repo, checkpoint)


@pytest.fixture
def history(models, sign):
    """`models`, and a function that records more: base(name, tensors), tuned(name, tensors, base)."""
    repo, folder = models

    def base(name, tensors, *, files=None):
        write_checkpoint(folder / name, tensors)
        if files:
            (folder / name / "README.md").write_text(files)
        import_base(repo, str(folder / name), draft=Draft(signature=sign()))

    def tuned(name, tensors, on):
        write_checkpoint(folder / name, tensors)
        commit(repo, str(folder / name), base=on, draft=Draft(signature=sign()))

    return repo, folder, base, tuned


CHAT = fine_tuned(weights(0), seed=1)


def test_the_base_comes_before_a_fine_tune_that_is_about_as_near(history):
    repo, folder, _, tuned = history
    tuned("code", fine_tuned(weights(0), seed=8), "v1")
    # A later step of a run: 60 % of the way to its base from the step before.
    found = near(repo, folder / "new", fine_tuned(CHAT, seed=9, scale=0.006))
    assert (found.name, found.runner_up.name) == ("v1", "chat")
    assert found.runner_up.distance < found.distance


def test_a_fine_tune_that_is_clearly_nearer_is_the_base(history):
    repo, folder, *_ = history
    found = near(repo, folder / "new", fine_tuned(CHAT, seed=9, scale=0.002))
    assert (found.name, found.how, found.runner_up.name) == ("chat", "inferred", "v1")


def test_two_bases_that_fit_about_equally_are_a_question(history):
    repo, folder, base, _ = history
    base("v1b", fine_tuned(weights(0), seed=30, scale=0.002))
    with pytest.raises(
        InvalidInputError, match=r"v1 \(1\.\d+% away\) and v1b \(1\.\d+% away\) fit"
    ) as caught:
        near(repo, folder / "new", fine_tuned(weights(0), seed=9))
    assert (caught.value.kind, caught.value.advice) == (ErrorKind.BASE_UNKNOWN, Advice.NAME_ONE_BASE)
    assert set(caught.value.facts.values()) == {"v1", "v1b"}


def test_one_base_under_two_names_is_one(history):
    repo, folder, base, _ = history
    base("again", weights(0), files="another README")
    base("wrapped", weights(0, prefix="module."))
    found = near(repo, folder / "new", fine_tuned(weights(0), seed=9))
    assert found.name == "v1"
    assert found.runner_up.name == "chat"


def test_of_two_bases_the_one_that_was_trained_further_in_a_part(history):
    """Where only small tensors were trained, the largest ones tell nothing."""
    repo, folder, base, _ = history
    small = {f"model.norms.{i}.weight": raw_tensor("F32", (4,), seed=i) for i in range(3)}
    large = {f"model.blocks.{i}.weight": raw_tensor("F32", (16, 16), seed=i) for i in range(14)}
    base("a", {**large, **small})
    base("b", {**large, **fine_tuned(small, seed=3, scale=0.5)})
    found = near(repo, folder / "new", {**large, **fine_tuned(small, seed=4, scale=0.01)})
    assert (found.name, found.runner_up.name) == ("a", "b")


def test_a_copy_of_a_fine_tune_has_its_base(history):
    repo, folder, *_ = history
    found = near(repo, folder / "copy", CHAT)
    assert (found.name, found.how) == ("v1", "copy")
    assert found.distance > 0
    found = near(repo, folder / "wrapped", {f"_orig_mod.{k}": t for k, t in CHAT.items()})
    assert (found.name, found.how) == ("v1", "copy")


def test_a_copy_of_a_base_has_that(history):
    repo, folder, *_ = history
    found = near(repo, folder / "copy", weights(50))
    assert (found.name, found.how, found.distance) == ("v2", "copy", 0.0)


def test_a_base_behind_a_prefix_of_another_dtype_and_with_a_new_head(history):
    repo, folder, *_ = history
    new = {f"module.{k}": t for k, t in fine_tuned(weights(0), seed=9).items()}
    new["module.score.weight"] = raw_tensor("F32", (2, 8))
    assert near(repo, folder / "new", new).name == "v1"


def test_of_the_steps_of_one_run_the_last_is_taken(history, sign):
    repo, folder, *_ = history
    step = fine_tuned(CHAT, seed=20, scale=0.0005)
    commit(repo, str(write_checkpoint(folder / "step", step)), draft=Draft("chat", signature=sign()))
    found = near(repo, folder / "new", fine_tuned(step, seed=9, scale=0.001))
    assert (found.name, found.runner_up.name) == ("chat", "chat~1")
