from __future__ import annotations

import pytest

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, NotFoundError
from deltavcs.repo import Repository
from deltavcs.tasks.catalog import find_task


def test_unknown_name_lists_the_known(repo: Repository) -> None:
    with pytest.raises(NotFoundError) as caught:
        find_task(repo.objects, repo.refs, "trivia")
    assert (caught.value.kind, caught.value.advice) == (ErrorKind.UNKNOWN_SOURCE, Advice.KNOWN_TASKS)
    assert "piqa" in caught.value.facts["tasks"]
