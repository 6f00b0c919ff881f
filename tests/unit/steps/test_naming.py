"""Names of commits lead back to them."""

from __future__ import annotations

from deltavcs.porcelain.branch import delete_branch
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.tag import tag
from deltavcs.steps.naming import SHORT, name_of, names_by_commit, tips
from deltavcs.steps.recording import Draft


def test_the_name_of_a_commit_leads_back_to_it_where_tag_and_branch_share_one(models, sign):
    repo, _ = models
    delete_branch(repo, "v1", signature=sign())
    v1 = repo.resolve("chat~1")
    tag(repo, "chat", v1, signature=sign())
    assert name_of(repo, v1) == "tags/chat"
    assert repo.resolve(name_of(repo, v1)) == v1


def test_an_earlier_commit_is_named_by_its_distance(models, sign):
    repo, folder = models
    first = repo.resolve("chat")
    (folder / "chat" / "notes.txt").write_text("more")
    commit(repo, str(folder / "chat"), base="v1", draft=Draft("chat", signature=sign()))
    assert name_of(repo, first) == "chat~1"
    assert repo.resolve("chat~1") == first


def test_what_nothing_names_is_called_by_its_id(models, sign):
    repo, _ = models
    other = repo.resolve("other")
    delete_branch(repo, "other", signature=sign())
    assert name_of(repo, other) == other[:SHORT]
    assert other not in tips(repo)


def test_branches_come_before_tags_and_a_tip_is_told_once(models, sign):
    repo, _ = models
    v1 = repo.resolve("v1")
    tag(repo, "a", v1, signature=sign())
    assert names_by_commit(repo)[v1] == ["v1", "tag: a"]
    assert tips(repo).count(v1) == 1
    assert len(tips(repo)) == 4
