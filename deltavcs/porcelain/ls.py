"""The names of a repository, or the files and tensors of a revision."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

from deltavcs.brief import brief
from deltavcs.repo import Repository
from deltavcs.steps.contents import ShownFile, ShownTensor, files_of, tensors_of
from deltavcs.steps.refnames import BRANCH, TAG, Ref, list_refs


@dataclass(frozen=True, slots=True)
class Contents:
    """Files and tensors of a revision."""

    revision: str
    files: tuple[ShownFile, ...]
    tensors: tuple[ShownTensor, ...]

    __repr__ = brief


def ls(repo: Repository, pattern: str | None = None) -> list[Ref]:
    """Branches, then tags, each by name.

    Args:
        pattern: a shell pattern such as `llama*`; None for all of them.
    """
    found = [*list_refs(repo, BRANCH), *list_refs(repo, TAG)]
    return [r for r in found if _fits(r.name, pattern)]


def ls_revision(repo: Repository, revision: str, pattern: str | None = None) -> Contents:
    """Files and tensors of a revision, those that match a shell pattern.

    Raises:
        NotFoundError: `unknown-revision`, with the fact `similar` where there are such names.
        InvalidInputError: `ambiguous-revision`, `bad-revision`.
    """
    value = repo.commit(repo.resolve(revision))
    manifest = repo.objects.get_manifest(value.manifest)
    stats = repo.objects.get_stats(value.stats) if value.stats else None
    files = files_of(manifest)
    return Contents(
        revision,
        tuple(f for f in files if _fits(f.path, pattern)),
        tuple(t for t in tensors_of(repo, manifest, stats) if _fits(t.name, pattern)),
    )


def _fits(name: str, pattern: str | None) -> bool:
    return pattern is None or fnmatch.fnmatchcase(name, pattern)
