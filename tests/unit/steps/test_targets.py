"""Revisions and expressions, resolved; and the tensor that a damaged one has."""

from __future__ import annotations

import pytest

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, IntegrityError, InvalidInputError, NotFoundError
from deltavcs.steps.targets import damaged_tensor, find_target, located, parse_dtype, prepare_target


def damage(repo, tensor_of):
    """A reader to which one tensor of that branch is damaged, as a bad sector of its pack would do."""
    blob = repo.manifest(repo.resolve(tensor_of)).tensors["model.layers.0.weight"].blob
    real = repo.objects.blobs.read_into

    def read_into(asked, at, out):
        if asked == blob:
            raise IntegrityError("its bytes do not hash to its id", kind=ErrorKind.HASH_MISMATCH)
        real(asked, at, out)

    return read_into


def test_a_revision_is_a_commit(models):
    repo, _ = models
    target = find_target(repo, " chat~0 ")
    commit = repo.resolve("chat")
    assert (target.commit, target.operands, target.recipe) == (commit, (commit,), commit)


def test_an_expression_of_one_revision_is_that_revision(models):
    repo, _ = models
    assert find_target(repo, "(chat)").commit == repo.resolve("chat")


@pytest.mark.parametrize(
    ("text", "recipe"),
    [
        ("v2 + 0.8 * (chat - v1)", "({v2} + 0.8 * ({chat} - {v1}))"),
        ("(chat + other) / 2", "(({chat} + {other}) / 2.0)"),
    ],
)
def test_the_recipe_of_an_expression_is_an_expression_of_ids(models, text, recipe):
    repo, _ = models
    target = find_target(repo, text)
    ids = {name: repo.resolve(name) for name in ("v1", "v2", "chat", "other")}
    assert target.commit is None
    assert target.recipe == recipe.format(**ids)
    assert find_target(repo, target.recipe).recipe == target.recipe


@pytest.mark.parametrize(("text", "error"), [("nothing + v1", NotFoundError), ("v1 +", InvalidInputError)])
def test_what_names_nothing(models, text, error):
    repo, _ = models
    with pytest.raises(error):
        find_target(repo, text)


@pytest.mark.parametrize(
    ("text", "found"), [("torch.float32", "F32"), ("BF16", "BF16"), ("fp8", "F8_E4M3"), ("half", None)]
)
def test_dtypes_as_users_write_them(text, found):
    if found is not None:
        assert parse_dtype(text) == found
        return
    with pytest.raises(InvalidInputError) as caught:
        parse_dtype(text)
    assert caught.value.advice is Advice.ONE_OF


def test_folding_what_is_no_adapter(models):
    repo, _ = models
    with pytest.raises(InvalidInputError, match="chat is not an adapter") as caught:
        prepare_target(repo, "chat", dtype=None, merge_adapter=True)
    assert caught.value.advice is Advice.LEAVE_OUT_FOLDING


def test_a_conversion_changes_every_tensor(models):
    repo, _ = models
    target = prepare_target(repo, "chat", dtype="float32", merge_adapter=False)
    assert {t.dtype for t in target.view.tensors.values()} == {"F32"}
    assert target.commit == repo.resolve("chat")


def test_a_damaged_tensor_is_named(models, monkeypatch):
    repo, _ = models
    target = find_target(repo, "chat")
    assert damaged_tensor(repo, target.view) is None
    monkeypatch.setattr(repo.objects.blobs, "read_into", damage(repo, "chat"))
    assert damaged_tensor(repo, target.view) == "model.layers.0.weight"
    error = located(repo, target, IntegrityError("corrupt", kind=ErrorKind.CORRUPT))
    assert str(error) == f"commit {repo.resolve('chat')[:12]}, model.layers.0.weight: corrupt"


def test_an_error_that_is_no_damage_stays_as_it_is(models):
    repo, _ = models
    error = InvalidInputError("no", kind=ErrorKind.BAD_ARGUMENT)
    assert str(located(repo, find_target(repo, "chat"), error)) == "no"
