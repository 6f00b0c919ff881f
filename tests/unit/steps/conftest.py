"""A small history for what verbs share."""

from __future__ import annotations

from pathlib import Path

import pytest
from two_versions import record_two_versions

from deltavcs.repo import Repository


@pytest.fixture
def models(repo, tmp_path, sign) -> tuple[Repository, Path]:
    """Bases v1 and v2, and a fine-tune of each: chat and other."""
    record_two_versions(repo, tmp_path, sign)
    return repo, tmp_path
