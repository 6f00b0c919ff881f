"""Derive the lineage index and missing pack indexes anew."""

from __future__ import annotations

from dataclasses import dataclass

from deltavcs.index.queries import count_commits
from deltavcs.oid import PackId
from deltavcs.repo import Repository


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What was rebuilt."""

    n_commits: int
    pack_indexes: tuple[PackId, ...]


def rebuild_index(repo: Repository) -> Rebuilt:
    """Rebuild the index of every pack where it is missing or damaged, then the lineage index.

    Raises:
        IntegrityError: a pack or an object that a ref reaches is damaged.
    """
    unsound = [p for p in sorted(repo.objects.packs.ids()) if not repo.objects.packs.index_is_sound(p)]
    fixed = tuple(p for p in unsound if repo.objects.packs.reindex(p))
    if fixed:
        repo.objects.packs.forget()
    repo.index.rebuild()
    return Rebuilt(count_commits(repo.index), fixed)
