"""`dvx ls`: the names of a repository, or the files and tensors of a revision."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

from deltavcs.porcelain.branch import Ref, branches, tags
from deltavcs.porcelain.show import ShownFile, ShownTensor, show
from deltavcs.repo import Repository


@dataclass(frozen=True, slots=True)
class Contents:
    """Files and tensors of a revision."""

    revision: str
    files: tuple[ShownFile, ...]
    tensors: tuple[ShownTensor, ...]


def ls(repo: Repository, pattern: str | None = None) -> list[Ref]:
    """Branches and tags, those that match a shell pattern."""
    found = [*branches(repo), *tags(repo)]
    return [r for r in found if _fits(r.name, pattern)]


def ls_revision(repo: Repository, revision: str, pattern: str | None = None) -> Contents:
    """Files and tensors of a revision, those that match a shell pattern."""
    shown = show(repo, revision)
    return Contents(
        revision,
        tuple(f for f in shown.files if _fits(f.path, pattern)),
        tuple(t for t in shown.tensors if _fits(t.name, pattern)),
    )


def _fits(name: str, pattern: str | None) -> bool:
    return pattern is None or fnmatch.fnmatchcase(name, pattern)
