"""Remove what no branch, tag or score reaches."""

from __future__ import annotations

from deltavcs.maintenance.collect import GcPlan, collect
from deltavcs.maintenance.collect import plan_gc as _plan
from deltavcs.repo import Repository

__all__ = ["GcPlan", "gc", "plan_gc"]


def plan_gc(repo: Repository) -> GcPlan:
    """What `gc` would remove.

    Raises:
        IntegrityError: the repository is damaged.
    """
    return _plan(repo.objects, repo.refs)


def gc(repo: Repository) -> GcPlan:
    """Remove what nothing refers to, and say what it was.

    Raises:
        ConflictError: `locked` if another command is writing.
        IntegrityError: the repository is damaged.
    """
    repo.check_writable()
    done = collect(repo.objects, lambda: _plan(repo.objects, repo.refs))
    repo.index.catch_up(packs=True)
    return done
