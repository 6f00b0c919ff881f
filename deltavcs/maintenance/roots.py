"""What must be kept beside what the refs name."""

from __future__ import annotations

from collections.abc import Sequence

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, IntegrityError
from deltavcs.oid import CommitId, is_oid
from deltavcs.refs import BROKEN, RefStore
from deltavcs.refs.refstore import RefMove

_NAMES = ("refs/heads/", "refs/tags/")


def check_refs_are_there(refs: RefStore, moves: Sequence[RefMove]) -> None:
    """Refuse refs that someone removed behind the repository's back: every commit would be unreachable.

    Args:
        moves: the reflog, oldest first.

    Raises:
        IntegrityError: `corrupt` if there is neither branch nor tag, but the reflog says that there are.
    """
    if any(ref.startswith(_NAMES) for ref in refs.names()):
        return
    lost = [ref for ref, value in last_values(moves).items() if value and ref.startswith(_NAMES)]
    if lost:
        raise IntegrityError(
            f"there is no branch and no tag, but the reflog names {len(lost)}, such as {lost[0]}:"
            " the folder refs was lost",
            kind=ErrorKind.CORRUPT,
            advice=Advice.RESTORE_REFS,
        )


def last_values(moves: Sequence[RefMove]) -> dict[str, str | None]:
    """What each ref named last, by the reflog; None for one that was deleted."""
    return {move.ref: move.new for move in moves}


def remembered_commits(refs: RefStore, moves: Sequence[RefMove], keep_since: int) -> set[CommitId]:
    """Commits that refs named lately, and those that broken refs named last."""
    recent = {oid for move in moves if move.time >= keep_since for oid in (move.old, move.new)}
    last = last_values(moves)
    broken = {last.get(ref) for ref in refs.names() if refs.peek(ref) is BROKEN}
    return {CommitId(oid) for oid in recent | broken if oid is not None and is_oid(oid)}
