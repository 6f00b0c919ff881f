"""Commits without tensors: models in other formats, which are kept as files and cannot be computed with."""

from __future__ import annotations

from collections.abc import Iterable

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.oid import CommitId
from deltavcs.repo import Repository
from deltavcs.steps.naming import name_of


def check_tensors(repo: Repository, commits: Iterable[CommitId]) -> None:
    """Refuse commits that hold no tensors, before anything is computed with them.

    Raises:
        InvalidInputError: `incompatible`, naming the commit.
    """
    for commit in commits:
        if not repo.manifest(commit).tensors:
            raise InvalidInputError(
                f"{name_of(repo, commit)} holds no tensors: its files are kept whole, and cannot be computed"
                " with",
                kind=ErrorKind.INCOMPATIBLE,
            )
