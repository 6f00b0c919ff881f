"""Branches: names for commits, which move on with what is committed to them."""

from __future__ import annotations

from deltavcs.repo import Repository
from deltavcs.signature import Signature
from deltavcs.steps.refnames import BRANCH, Ref, create_ref, delete_ref, list_refs, rename_ref


def branches(repo: Repository) -> list[Ref]:
    """All branches by name."""
    return list_refs(repo, BRANCH)


def branch(repo: Repository, name: str, revision: str, *, signature: Signature | None = None) -> Ref:
    """Make a branch at a revision.

    Raises:
        AlreadyExistsError: `ref-exists`.
        NotFoundError: an unknown revision.
    """
    return create_ref(repo, BRANCH, name, revision, signature or repo.identity.sign("branch"))


def delete_branch(repo: Repository, name: str, *, signature: Signature | None = None) -> Ref:
    """Delete a branch; its commits stay until `gc`. Raises NotFoundError."""
    return delete_ref(repo, BRANCH, name, signature or repo.identity.sign("delete branch"))


def rename_branch(repo: Repository, old: str, new: str, *, signature: Signature | None = None) -> Ref:
    """Rename a branch; a crash leaves both names or one.

    Raises:
        NotFoundError: there is no branch `old`.
        AlreadyExistsError: there is a branch `new`.
    """
    return rename_ref(repo, BRANCH, old, new, signature or repo.identity.sign("rename branch"))
