"""What has a diff vector, and the plan of carrying it over."""

from __future__ import annotations

import pytest

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import Role
from deltavcs.porcelain.transfer import transfer
from deltavcs.steps.recording import Draft
from deltavcs.steps.transfers import plan_transfer


def test_the_recipe_names_ids_and_the_scale(models):
    repo, _ = models
    v1, v2, chat = (repo.resolve(name) for name in ("v1", "v2", "chat"))
    plan = plan_transfer(repo, chat, v2, scale=0.1)
    assert (plan.delta, plan.source, plan.target) == (chat, v1, v2)
    assert plan.recipe == f"{v2} + 0.1 * ({chat} - {v1})"


def test_only_a_fine_tune_has_a_diff_vector(models):
    repo, _ = models
    with pytest.raises(InvalidInputError, match="v1 is a base") as caught:
        plan_transfer(repo, repo.resolve("v1"), repo.resolve("v2"))
    assert (caught.value.kind, caught.value.advice) == (ErrorKind.INCOMPATIBLE, Advice.NAME_FINETUNE)


def test_a_transfer_records_its_three_parents_and_can_be_carried_on(models, sign):
    repo, _ = models
    v1, v2, chat = (repo.resolve(name) for name in ("v1", "v2", "chat"))
    (done,) = transfer(repo, "chat", "v2", draft=Draft("moved", signature=sign()))
    value = repo.commit(done.recorded.commit)
    roles = {Role.BASE: v2, Role.DELTA: chat, Role.SOURCE: v1}
    assert {p.role: p.commit for p in value.parents} == roles
    assert value.metadata["transfer.scale"] == "1"
    assert plan_transfer(repo, done.recorded.commit, v1).source == v2
