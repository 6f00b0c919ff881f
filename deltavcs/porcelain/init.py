"""`dvx init`: an empty repository."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deltavcs.repo import Repository, init_repository


@dataclass(frozen=True, slots=True)
class Initialised:
    """A new repository."""

    repository: Repository
    path: Path


def init(directory: Path) -> Initialised:
    """Create an empty repository in `directory`/.dvx.

    Raises:
        AlreadyExistsError: `repository-exists`.
    """
    repository = init_repository(directory)
    return Initialised(repository, repository.path)
