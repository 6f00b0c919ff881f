"""Parents that a user gives to a commit."""

from __future__ import annotations

from pathlib import Path

import pytest
from two_versions import record_two_versions

from deltavcs.errors import InvalidInputError
from deltavcs.porcelain.commit import commit
from deltavcs.repo import Repository
from deltavcs.steps.recording import Draft


@pytest.fixture
def models(repo, tmp_path, sign) -> tuple[Repository, Path]:
    """Bases v1 and v2, and a fine-tune of each: chat and other."""
    record_two_versions(repo, tmp_path, sign)
    return repo, tmp_path


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
