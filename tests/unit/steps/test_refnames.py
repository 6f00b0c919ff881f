"""Branches and tags: each step leaves a name, and no gc comes between."""

from __future__ import annotations

import pytest

from deltavcs.advice import Advice
from deltavcs.errors import AlreadyExistsError, ConflictError, ErrorKind, NotFoundError
from deltavcs.maintenance.collect import collect, plan_gc
from deltavcs.porcelain.branch import branch, delete_branch, rename_branch
from deltavcs.repo import open_repository
from deltavcs.steps.refnames import BRANCH, TAG, create_ref, delete_ref, list_refs, rename_ref


@pytest.mark.parametrize("verb", ["rename", "create"])
def test_no_gc_comes_between_reading_a_commit_and_naming_it(models, sign, verb, monkeypatch):
    repo, _ = models
    chat = repo.resolve("chat")
    if verb == "create":
        delete_branch(repo, "chat", signature=sign())
    other = open_repository(repo.path.parent)
    move = type(repo.refs).move

    def with_gc_before(self, *args, **kwargs):
        if self is repo.refs:
            with pytest.raises(ConflictError):
                collect(other.objects, lambda: plan_gc(other.objects, other.refs, keep_since=1 << 62))
        move(self, *args, **kwargs)

    monkeypatch.setattr(type(repo.refs), "move", with_gc_before)
    if verb == "create":
        branch(repo, "back", chat, signature=sign())
    else:
        rename_branch(repo, "chat", "talk", signature=sign())
    assert repo.resolve("back" if verb == "create" else "talk") == chat


@pytest.mark.parametrize("kind", [BRANCH, TAG])
def test_a_name_is_made_renamed_and_deleted(models, sign, kind):
    repo, _ = models
    chat = repo.resolve("chat")
    made = create_ref(repo, kind, "a", "chat", sign())
    assert (made.name, made.kind, made.commit, made.commit_kind) == ("a", kind, chat, "finetune")
    assert rename_ref(repo, kind, "a", "b", sign()).commit == chat
    names = [r.name for r in list_refs(repo, kind)]
    assert "b" in names and "a" not in names
    assert names == sorted(names)
    assert delete_ref(repo, kind, "b", sign()).commit == chat
    assert "b" not in [r.name for r in list_refs(repo, kind)]
    assert repo.commit(chat).manifest


def test_a_name_that_exists_is_kept(models, sign):
    repo, _ = models
    before = repo.refs.all()
    for act in (
        lambda: create_ref(repo, BRANCH, "chat", "v1", sign()),
        lambda: rename_ref(repo, BRANCH, "v1", "chat", sign()),
    ):
        with pytest.raises(AlreadyExistsError) as caught:
            act()
        assert (caught.value.kind, caught.value.advice) == (ErrorKind.REF_EXISTS, Advice.DELETE_REF_FIRST)
        assert caught.value.facts == {"ref_kind": "branch", "name": "chat"}
    assert repo.refs.all() == before


@pytest.mark.parametrize("act", [delete_ref, lambda r, k, n, s: rename_ref(r, k, n, "new", s)])
def test_a_name_that_is_not_there(models, sign, act):
    repo, _ = models
    with pytest.raises(NotFoundError, match="there is no tag chat") as caught:
        act(repo, TAG, "chat", sign())
    assert caught.value.facts == {"ref_kind": "tag"}
