"""Arguments that are easily given wrong, and the verbs that look."""

from __future__ import annotations

import pytest

import deltavcs as dv
from deltavcs.steps.arguments import check_count, several


def refused(call) -> str:
    with pytest.raises(dv.InvalidInputError) as caught:
        call()
    assert caught.value.kind is dv.ErrorKind.BAD_ARGUMENT
    return str(caught.value)


def test_a_list_is_taken_and_a_text_is_not() -> None:
    assert several(["a", "b"], "revisions") == ("a", "b")
    assert several((), "revisions") == ()
    assert refused(lambda: several("ab", "revisions")) == "revisions takes a list of texts, not the text 'ab'"


@pytest.mark.parametrize(("given", "least"), [(None, 1), (1, 1), (0, 0), (7, 1)])
def test_counts_from_the_least_on(given: int | None, least: int) -> None:
    check_count(given, "k", least=least)


def test_a_count_below_the_least() -> None:
    assert refused(lambda: check_count(-1, "limit", least=0)) == "limit is -1, and 0 is the least"


@pytest.mark.parametrize(
    "call",
    [
        lambda repo: dv.merge(repo, "both", draft=dv.Draft("m")),
        lambda repo: dv.commit(repo, "dir", parents="v1"),
        lambda repo: dv.transfer(repo, "v1", "v2", deltas="chat"),
        lambda repo: dv.transfer(repo, "v1", "v2", carrying=dv.Carrying(vocab="x")),
        lambda repo: dv.recycle(repo, "v1", dv.Training("x {init} {out}", repo.path), name="r"),
        lambda repo: dv.Selection(exclude_tasks="mc"),
        lambda repo: dv.log(repo, limit=-1),
        lambda repo: dv.reflog(repo, limit=-1),
        lambda repo: dv.rank(repo, "piqa", k=-1),
        lambda repo: dv.mashup(repo, "piqa", k=0, draft=dv.Draft("m")),
        lambda repo: dv.Resources(threads=-1),
        lambda repo: dv.Resources(memory_bytes=-1),
        lambda repo: dv.Signature("A", "noon"),
        lambda repo: dv.Signature("A", 10**30),
        lambda repo: dv.Signature(5, 1),
        lambda repo: dv.tag(repo, "t", "v1", signature=dv.Identity("A", lambda: 1.5).sign()),
    ],
)
def test_verbs_and_values_look(repo, call) -> None:
    refused(lambda: call(repo))
