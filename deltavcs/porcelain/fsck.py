"""Is everything there, and is it what it says it is?"""

from __future__ import annotations

from dataclasses import dataclass

from deltavcs.brief import brief
from deltavcs.maintenance.check import CheckCounts, Problem, check
from deltavcs.repo import Repository

__all__ = ["CheckCounts", "Fsck", "Problem", "fsck"]


@dataclass(frozen=True, slots=True)
class Fsck:
    """The result of a check; no problems means all is well."""

    problems: tuple[Problem, ...]
    counts: CheckCounts
    full: bool

    __repr__ = brief


def fsck(repo: Repository, *, full: bool = False) -> Fsck:
    """Check what the refs reach. Damage is reported, not raised.

    Args:
        full: decode every blob and derive every id anew, which reads everything.
    """
    problems, counts = check(repo.objects, repo.refs, full=full, resources=repo.resources)
    return Fsck(tuple(problems), counts, full)
