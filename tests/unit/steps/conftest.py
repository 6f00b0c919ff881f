"""A small history for what verbs share: recorded once, copied for each test."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest
from two_versions import record_two_versions

from deltavcs.repo import Repository, init_repository
from deltavcs.signature import Signature
from deltavcs.storage import LocalStorage


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `repo` and its sources, which no test may change."""
    folder = tmp_path_factory.mktemp("models")
    clock = itertools.count(1_600_000_000)
    record_two_versions(
        init_repository(folder / "repo", sync=False),
        folder,
        lambda: Signature("tester", next(clock) * 1_000_000),
    )
    return folder


@pytest.fixture
def models(recorded: Path, tmp_path: Path) -> tuple[Repository, Path]:
    """Bases v1 and v2, and a fine-tune of each: chat and other."""
    folder = tmp_path / "models"
    shutil.copytree(recorded, folder)
    return Repository(LocalStorage(folder / "repo" / ".dvx", sync=False)), folder
