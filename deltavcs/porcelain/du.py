"""What each commit costs, and what it shares."""

from __future__ import annotations

from dataclasses import dataclass

from deltavcs.brief import brief
from deltavcs.index.queries import DiskUsage, StorageTotals, disk_usage, storage_totals
from deltavcs.repo import Repository


@dataclass(frozen=True, slots=True)
class Usage:
    """Disk usage by commit, the most expensive first, and in all."""

    commits: tuple[DiskUsage, ...]
    totals: StorageTotals

    __repr__ = brief


def du(repo: Repository, revision: str | None = None) -> Usage:
    """What one revision costs, or every commit, in bytes of the packs.

    Raises:
        NotFoundError: `unknown-revision`, with the fact `similar` where there are such names.
        InvalidInputError: `ambiguous-revision`, `bad-revision`.
    """
    chosen = None if revision is None else [repo.resolve(revision)]
    return Usage(tuple(disk_usage(repo.index, chosen)), storage_totals(repo.index))
