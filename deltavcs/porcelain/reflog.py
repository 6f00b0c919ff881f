"""How the names moved."""

from __future__ import annotations

from deltavcs.refs import branch_ref
from deltavcs.refs.refstore import RefMove
from deltavcs.repo import Repository
from deltavcs.steps.arguments import check_count

__all__ = ["RefMove", "reflog"]


def reflog(repo: Repository, name: str | None = None, *, limit: int | None = None) -> list[RefMove]:
    """How refs moved, newest first.

    Args:
        name: a branch or a tag, also one that was deleted; None for all refs, also those of scores
            and tasks.
        limit: at most so many.

    Raises:
        InvalidInputError: `bad-ref-name`; `bad-argument` for a negative limit.
    """
    check_count(limit, "limit", least=0)
    wanted = branch_ref(name) if name is not None else None
    found = [e for e in repo.refs.log() if wanted is None or e.ref in (wanted, f"refs/tags/{name}")]
    return found[::-1][:limit]
