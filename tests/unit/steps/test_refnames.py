"""What a review of the main job found: each test failed before its fix."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_checkpoints import weights

from deltavcs.errors import ConflictError, InvalidInputError
from deltavcs.maintenance.collect import collect, plan_gc
from deltavcs.porcelain.branch import branch, delete_branch, rename_branch
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.tag import tag
from deltavcs.porcelain.transfer import transfer
from deltavcs.repo import Repository, open_repository
from deltavcs.steps.naming import name_of
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import fine_tuned, write_checkpoint


@pytest.fixture
def models(repo, tmp_path, sign) -> tuple[Repository, Path]:
    """Bases v1 and v2, and a fine-tune of each: chat and other."""
    for seed, base, tuned in ((0, "v1", "chat"), (50, "v2", "other")):
        tensors = weights(seed)
        write_checkpoint(tmp_path / base, tensors)
        write_checkpoint(tmp_path / tuned, fine_tuned(tensors, seed=seed + 1))
        import_base(repo, str(tmp_path / base), draft=Draft(signature=sign()))
        commit(repo, str(tmp_path / tuned), base=base, draft=Draft(signature=sign()))
    return repo, tmp_path


def content(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_delta_must_be_a_fine_tune_of_the_base_that_from_names(models, sign):
    repo, _ = models
    with pytest.raises(InvalidInputError, match="other is a fine-tune of v2, not of v1"):
        transfer(repo, "v1", "v2", deltas=["other"], draft=Draft(signature=sign()))


def test_a_new_parent_is_worth_a_commit(models, sign):
    repo, tmp = models
    first = commit(repo, str(tmp / "chat"), base="v1", parents=["v2:teacher"], draft=Draft(signature=sign()))
    again = commit(repo, str(tmp / "chat"), base="v1", parents=["v2:teacher"], draft=Draft(signature=sign()))
    assert not first.recorded.unchanged
    assert again.recorded.unchanged


@pytest.mark.parametrize("role", ["base", "previous"])
def test_a_parent_cannot_take_the_role_that_history_follows(models, sign, role):
    repo, tmp = models
    with pytest.raises(InvalidInputError, match=f"its {role} parent"):
        commit(
            repo, str(tmp / "chat"), base="v1", parents=[f"v2:{role}"], draft=Draft("new", signature=sign())
        )


def test_the_name_of_a_commit_leads_back_to_it_where_tag_and_branch_share_one(models, sign):
    repo, _ = models
    delete_branch(repo, "v1", signature=sign())
    v1 = repo.resolve("chat~1")
    tag(repo, "chat", v1, signature=sign())
    assert name_of(repo, v1) == "tags/chat"
    assert repo.resolve(name_of(repo, v1)) == v1


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
                collect(other.objects, lambda: plan_gc(other.objects, other.refs))
        move(self, *args, **kwargs)

    monkeypatch.setattr(type(repo.refs), "move", with_gc_before)
    if verb == "create":
        branch(repo, "back", chat, signature=sign())
    else:
        rename_branch(repo, "chat", "talk", signature=sign())
    assert repo.resolve("back" if verb == "create" else "talk") == chat
