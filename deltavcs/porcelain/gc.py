"""Remove what no branch, tag or score reaches."""

from __future__ import annotations

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.maintenance.collect import GcPlan, collect
from deltavcs.maintenance.collect import plan_gc as _plan
from deltavcs.repo import Repository

__all__ = ["GRACE_DAYS", "GcPlan", "gc", "plan_gc"]

GRACE_DAYS = 14.0
_MAX_GRACE_DAYS = 36_500
_NEVER = 1 << 62
_DAY_US = 24 * 3600 * 1_000_000


def plan_gc(repo: Repository, *, grace_days: float = GRACE_DAYS) -> GcPlan:
    """What `gc` would remove.

    Raises:
        InvalidInputError: `bad-argument` for a grace that is no number of days.
        IntegrityError: the repository is damaged.
    """
    return _plan(repo.objects, repo.refs, keep_since=_keep_since(repo, grace_days))


def gc(repo: Repository, *, grace_days: float = GRACE_DAYS) -> GcPlan:
    """Remove what nothing refers to, and say what it was.

    Args:
        grace_days: commits that a branch or tag named in the last days stay, so that a branch that was
            deleted by mistake can be made again; 0 keeps none of them.

    Raises:
        ConflictError: `locked` if another command is writing.
        InvalidInputError: `bad-argument` for a grace that is no number of days.
        IntegrityError: the repository is damaged.
    """
    repo.check_writable()
    since = _keep_since(repo, grace_days)
    done = collect(repo.objects, lambda: _plan(repo.objects, repo.refs, keep_since=since))
    repo.index.catch_up(packs=True)
    return done


def _keep_since(repo: Repository, grace_days: float) -> int:
    if not 0 <= grace_days <= _MAX_GRACE_DAYS:
        raise InvalidInputError(f"grace_days is {grace_days}", kind=ErrorKind.BAD_ARGUMENT)
    # Nothing is newer than the future: without grace not even a move of this very moment counts.
    return repo.identity.clock() - int(grace_days * _DAY_US) if grace_days else _NEVER
