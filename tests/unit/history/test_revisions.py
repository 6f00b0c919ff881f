"""What a user types, and the commit it names."""

from __future__ import annotations

import pytest

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError, NotFoundError
from deltavcs.objects.model import Commit, Kind
from deltavcs.objects.small import frame_object, object_key
from deltavcs.oid import ManifestId
from deltavcs.refs import ABSENT

NOTHING = ManifestId("0" * 64)


@pytest.mark.parametrize(
    ("text", "commit"),
    [
        ("run", "r2"),
        ("best", "r1"),
        ("tags/run", "r0"),
        ("heads/run", "r2"),
        ("m/x+y", "merge"),
        ("run~", "r1"),
        ("run~1", "r1"),
        ("run~2", "r0"),
        ("run~~", "r0"),
        ("run~3", "base"),
        ("run~1~2", "base"),
        ("run~0", "r2"),
        ("best~", "r0"),
        ("tags/run~", "base"),
    ],
)
def test_names_and_steps(repo, history, text, commit):
    assert repo.resolve(text) == history[commit]


def test_ids_and_prefixes(repo, history):
    for commit in history.values():
        for n in (64, 63, 20):
            assert repo.resolve(commit[:n]) == commit
        assert repo.resolve(f"{commit}~0") == commit


def test_a_branch_wins_over_a_prefix(repo, history, sign):
    name = history["r0"][:6]
    repo.refs.move(f"refs/heads/{name}", expected=ABSENT, new=history["base"], signature=sign())
    assert repo.resolve(name) == history["base"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ghost",
        "~",
        "~1",
        "run~9",
        "base~",
        "0000",
        "abc",
        "../heads/run",
        "/run",
        "run/",
        "refs/heads/run",
        "run^",
        "RUN",
        "x" * 1000,
        "\0",
        "\ud800",
        "a\nb",
        "deadbeef" * 8,
    ],
)
def test_what_names_nothing(repo, history, text):
    with pytest.raises(NotFoundError) as caught:
        repo.resolve(text)
    assert caught.value.kind is ErrorKind.UNKNOWN_REVISION


@pytest.mark.parametrize("text", ["run~x", "run~-1", "run~1.0", "run~1000001", "run~²", "run~" + "9" * 5000])
def test_malformed_steps(repo, history, text):
    with pytest.raises(InvalidInputError) as caught:
        repo.resolve(text)
    assert caught.value.kind is ErrorKind.BAD_REVISION
    assert caught.value.advice is Advice.COUNT_STEPS and caught.value.facts == {"name": "run"}


def test_suggestions(repo, history):
    with pytest.raises(NotFoundError) as caught:
        repo.resolve("bse")
    assert caught.value.advice is Advice.SIMILAR_NAMES and caught.value.facts == {"similar": "base or best"}
    with pytest.raises(NotFoundError) as caught:
        repo.resolve("run + base")
    assert (
        caught.value.advice is Advice.SIMILAR_NAMES_OR_EXPRESSION and "base" in caught.value.facts["similar"]
    )
    with pytest.raises(NotFoundError) as caught:
        repo.resolve("nothing like it at all")
    assert caught.value.advice is Advice.NAMES_OR_EXPRESSION and not caught.value.facts


def test_an_empty_repository_says_how_to_begin(repo):
    with pytest.raises(NotFoundError) as caught:
        repo.resolve("main")
    assert caught.value.advice is Advice.IMPORT_FIRST


def test_an_ambiguous_prefix_lists_the_commits(repo, sign):
    by_prefix = {}
    for i in range(5000):
        oid, framed = frame_object("commit", Commit(Kind.BASE, NOTHING, message=f"number {i}").encode())
        if oid[:4] in by_prefix:
            other, other_framed, j = by_prefix[oid[:4]]
            repo.storage.put(object_key(oid), framed)
            repo.storage.put(object_key(other), other_framed)
            break
        by_prefix[oid[:4]] = oid, framed, i
    with pytest.raises(InvalidInputError) as caught:
        repo.resolve(oid[:4])
    assert caught.value.kind is ErrorKind.AMBIGUOUS_REVISION
    assert f"number {i}" in caught.value.message and f"number {j}" in caught.value.message
    assert repo.resolve(oid[:16]) == oid


def test_a_prefix_finds_commits_only(repo, sign):
    oid, framed = frame_object("manifest", b"{}")
    repo.storage.put(object_key(oid), framed)
    for text in (oid, oid[:8]):
        with pytest.raises(NotFoundError):
            repo.resolve(text)
