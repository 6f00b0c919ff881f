"""Tags: names for commits that do not move."""

from __future__ import annotations

from deltavcs.repo import Repository
from deltavcs.signature import Signature
from deltavcs.steps.refnames import TAG, Ref, create_ref, delete_ref, list_refs


def tags(repo: Repository) -> list[Ref]:
    """All tags by name."""
    return list_refs(repo, TAG)


def tag(repo: Repository, name: str, revision: str, *, signature: Signature | None = None) -> Ref:
    """Make a tag at a revision.

    Raises:
        AlreadyExistsError: `ref-exists`.
        NotFoundError: an unknown revision.
    """
    return create_ref(repo, TAG, name, revision, signature or repo.identity.sign("tag"))


def delete_tag(repo: Repository, name: str, *, signature: Signature | None = None) -> Ref:
    """Delete a tag. Raises NotFoundError."""
    return delete_ref(repo, TAG, name, signature or repo.identity.sign("delete tag"))
