"""What a checkpoint was made from, base below base."""

from __future__ import annotations

from collections.abc import Iterable

from deltavcs.objects.model import Kind, Role
from deltavcs.objects.store import ObjectStore
from deltavcs.oid import CommitId


def base_chain(objects: ObjectStore, commit_id: CommitId) -> list[CommitId]:
    """A commit's base, its base's base, and so on; a base begins with itself."""
    value = objects.get_commit(commit_id)
    chain = [commit_id] if value.kind is Kind.BASE else []
    at = value.parent_as(Role.BASE)
    while at is not None and at not in chain:
        chain.append(at)
        at = objects.get_commit(at).parent_as(Role.BASE)
    return chain


def common_base(objects: ObjectStore, commits: Iterable[CommitId]) -> CommitId | None:
    """The nearest checkpoint that all of `commits` were made from; None if there is none."""
    chains = [base_chain(objects, c) for c in commits]
    if not chains:
        return None
    others = [set(chain) for chain in chains[1:]]
    return next((c for c in chains[0] if all(c in o for o in others)), None)
