"""The order of scores, and which candidates can be compared."""

from __future__ import annotations

import pytest

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import Kind, Score
from deltavcs.oid import CommitId, ManifestId
from deltavcs.ranking.candidates import Candidate
from deltavcs.ranking.order import Evaluated, choose_group, order, without_tasks


def candidate(letter: str, *, kind: Kind = Kind.FINETUNE, group: str = "g", tasks: str = "") -> Candidate:
    return Candidate(
        commit=CommitId(letter * 64),
        manifest=ManifestId(letter * 64),
        kind=kind,
        task=None,
        base=None,
        below=None,
        group=group,
        model_key=group,
        trained_on=frozenset(tasks.split()),
    )


def evaluated(letter: str, loss: float, accuracy: float | None = None) -> Evaluated:
    one = candidate(letter)
    score = Score(one.commit, one.manifest, "t", "0" * 64, "train", 4, 0, 1, loss, accuracy)
    return Evaluated(one, score, recalled=False)


def letters(found: list[Evaluated]) -> str:
    return "".join(one.candidate.commit[0] for one in found)


def test_the_lowest_loss_is_first() -> None:
    assert letters(order([evaluated("a", 2.0), evaluated("b", 0.5), evaluated("c", 1.0)], "loss")) == "bca"


@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_ties_go_by_commit_whatever_came_first(metric: str) -> None:
    found = [evaluated(letter, 1.0, 0.5) for letter in "cab"]
    assert letters(order(found, metric)) == letters(order(found[::-1], metric)) == "abc"


def test_accuracy_then_loss_and_last_what_has_none() -> None:
    found = [
        evaluated("a", 0.1),
        evaluated("b", 3.0, 0.9),
        evaluated("c", 1.0, 0.9),
        evaluated("d", 0.2, 0.0),
    ]
    assert letters(order(found, "accuracy")) == "cbda"
    assert letters(order(found, "loss")) == "adcb"


def test_another_metric_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="cannot rank by 'perplexity'") as caught:
        order([], "perplexity")
    assert caught.value.kind is ErrorKind.BAD_ARGUMENT


def test_several_architectures_are_refused_with_one_of_each() -> None:
    found = [candidate("a", group="x"), candidate("b", group="y"), candidate("c", group="y")]
    names = {found[1].commit: "tuned"}
    with pytest.raises(InvalidInputError) as caught:
        choose_group(found, adapters=None, describe=names)
    assert str(caught.value) == f"there are checkpoints of 2 architectures: 2 like tuned; 1 like {'a' * 12}"
    assert caught.value.kind is ErrorKind.BAD_ARGUMENT


def test_kinds_of_adapters_are_told_from_architectures() -> None:
    found = [candidate(c, kind=Kind.ADAPTER, group=c) for c in "ab"]
    with pytest.raises(InvalidInputError, match="2 kinds of adapters"):
        choose_group(found, adapters=True, describe={})


@pytest.mark.parametrize(
    ("kinds", "adapters", "chosen"),
    [
        ((Kind.BASE, Kind.ADAPTER), None, "b"),
        ((Kind.BASE, Kind.ADAPTER), False, "a"),
        ((Kind.FINETUNE, Kind.ADAPTER), None, "a"),
        ((Kind.FINETUNE, Kind.ADAPTER), True, "b"),
        ((Kind.BASE, Kind.BASE), None, "ab"),
        ((Kind.FINETUNE,), True, ""),
    ],
)
def test_adapters_are_taken_if_there_is_nothing_else(
    kinds: tuple[Kind, ...], adapters: bool | None, chosen: str
) -> None:
    found = [candidate(letter, kind=kind) for letter, kind in zip("ab", kinds, strict=False)]
    got = choose_group(found, adapters=adapters, describe={})
    assert "".join(c.commit[0] for c in got) == chosen


def test_tasks_are_excluded_also_where_a_parent_saw_them() -> None:
    found = [candidate("a"), candidate("b", tasks="piqa"), candidate("c", tasks="arc piqa")]
    assert without_tasks(found, ["piqa"]) == found[:1]
    assert without_tasks(found, ["arc", "other"]) == found[:2]
    assert without_tasks(found, []) == found
