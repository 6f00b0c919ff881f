"""The stages of a recycling, their branches, and the user's command."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.steps.stages import are_in_conflict, fill_command, parse_command, plan_stages, stage_folder


@pytest.mark.parametrize(
    ("iterative", "branches", "deltas"),
    [
        (True, ["r/v1", "r/v2.init", "r/v2", "r/other.init", "r/other"], ["r/v1", "r/v2"]),
        (
            False,
            ["r/v1", "r/v2.init", "r/v2", "r/v2.plain", "r/other.init", "r/other"],
            ["r/v1", "r/v2.plain"],
        ),
    ],
)
def test_what_is_carried_on(models, iterative, branches, deltas):
    repo, _ = models
    stages = plan_stages(repo, ["v1", "v2", "other"], "r", iterative=iterative)
    assert [s.branch for s in stages] == branches
    assert [s.position for s in stages] == list(range(1, len(stages) + 1))
    assert [s.delta for s in stages if s.is_transfer] == deltas
    assert [s.init for s in stages if s.init] == ["r/v2.init", "r/other.init"]


def test_bases_that_only_ids_name(models):
    repo, _ = models
    v1 = repo.resolve("v1")
    (stage,) = plan_stages(repo, [v1[:20]], "r", iterative=True)
    assert (stage.base, stage.branch) == (v1, f"r/{v1[:12]}")


@pytest.mark.parametrize(
    ("bases", "advice"),
    [
        ([], Advice.NAME_BASES),
        (["v1", "v2", "v1"], Advice.NAME_BASES_ONCE),
        (["v1", "heads/v1"], Advice.NAME_BASES_ONCE),
    ],
)
def test_bases_that_are_refused(models, bases, advice):
    repo, _ = models
    with pytest.raises(InvalidInputError) as caught:
        plan_stages(repo, bases, "r", iterative=True)
    assert (caught.value.kind, caught.value.advice) == (ErrorKind.BAD_ARGUMENT, advice)


@pytest.mark.parametrize(
    ("one", "other", "conflict"),
    [("a", "a", True), ("a/b", "a", True), ("a", "a/b", True), ("ab", "a", False), ("a/b", "a/c", False)],
)
def test_names_that_exclude_each_other(one, other, conflict):
    assert are_in_conflict(one, other) is conflict


def test_a_path_is_one_word_and_is_not_expanded():
    places = {"init": "/a b/$HOME", "out": "{init}; ls", "base": "/base", "stage": "1"}
    words = fill_command("train --from={init} {out} 'two words'", places)
    assert words == ["train", "--from=/a b/$HOME", "{init}; ls", "two words"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("train {init}", r"lacks {out}"),
        ("train", r"lacks {init} and {out}"),
        ("'oops {init} {out}", "split into words"),
    ],
)
def test_commands_that_are_refused(command, said):
    with pytest.raises(InvalidInputError, match=said):
        parse_command(command)


def test_another_command_or_start_is_another_folder(models):
    repo, _ = models
    (stage,) = plan_stages(repo, ["v1"], "r", iterative=True)
    first = stage_folder(stage, "iterative", "a", [None])
    assert first.startswith("01-v1-")
    others = {
        stage_folder(stage, "iterative", "b", [None]),
        stage_folder(stage, "direct", "a", [None]),
        stage_folder(stage, "iterative", "a", [stage.base]),
        stage_folder(replace(stage, base=repo.resolve("v2")), "iterative", "a", [None]),
    }
    assert len(others - {first}) == 4
    assert stage_folder(stage, "iterative", "a", [None]) == first
