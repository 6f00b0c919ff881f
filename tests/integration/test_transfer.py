"""What a transfer refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from two_versions import record_two_versions

from deltavcs.errors import InvalidInputError
from deltavcs.porcelain.transfer import transfer
from deltavcs.repo import Repository
from deltavcs.steps.recording import Draft


@pytest.fixture
def models(repo, tmp_path, sign) -> tuple[Repository, Path]:
    """Bases v1 and v2, and a fine-tune of each: chat and other."""
    record_two_versions(repo, tmp_path, sign)
    return repo, tmp_path


def test_delta_must_be_a_fine_tune_of_the_base_that_from_names(models, sign):
    repo, _ = models
    with pytest.raises(InvalidInputError, match="other is a fine-tune of v2, not of v1"):
        transfer(repo, "v1", "v2", deltas=["other"], draft=Draft(signature=sign()))
