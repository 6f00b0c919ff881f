"""History, newest first. Reads objects and refs only, so it needs no index and no lock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from deltavcs.brief import brief
from deltavcs.history.walk import walk, walk_topological
from deltavcs.objects.model import Commit
from deltavcs.oid import CommitId
from deltavcs.repo import Repository
from deltavcs.steps.arguments import check_count
from deltavcs.steps.naming import SHORT, names_by_commit, tips
from deltavcs.steps.scorebook import ScoreBook, ScoreLine


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One commit of the log.

    Attributes:
        short: the beginning of its id.
        names: branches, and tags as `tag: NAME`.
        time: microseconds since 1970-01-01 UTC.
        parents: id and role.
    """

    commit: CommitId
    short: str
    kind: str
    names: tuple[str, ...]
    message: str
    author: str
    time: int
    task: str | None
    parents: tuple[tuple[CommitId, str], ...]
    scores: tuple[ScoreLine, ...]

    __repr__ = brief


def log(
    repo: Repository, revision: str | None = None, *, limit: int | None = None, graph: bool = False
) -> list[LogEntry]:
    """Commits reachable from a revision, or from every branch and tag.

    Args:
        revision: where to begin; None for every branch and tag.
        limit: at most so many; few commits are then read, however long the history is.
        graph: order them so that each comes before its parents.

    Raises:
        NotFoundError: `unknown-revision`, with the fact `similar` where there are such names.
        InvalidInputError: `ambiguous-revision`, `bad-revision`; `bad-argument` for a negative limit.
    """
    check_count(limit, "limit", least=0)
    starts: Sequence[CommitId] = tips(repo) if revision is None else [repo.resolve(revision)]
    order = walk_topological if graph and limit is None else walk
    names = names_by_commit(repo)
    scores = ScoreBook(repo)
    found = islice(order(repo.objects, starts), limit)
    return [_entry(commit, value, names, scores) for commit, value in found]


def _entry(
    commit: CommitId,
    value: Commit,
    names: dict[CommitId, list[str]],
    scores: ScoreBook,
) -> LogEntry:
    return LogEntry(
        commit=commit,
        short=commit[:SHORT],
        kind=str(value.kind),
        names=tuple(names.get(commit, ())),
        message=value.message,
        author=value.author,
        time=value.time,
        task=value.task,
        parents=tuple((p.commit, p.role) for p in value.parents),
        scores=scores.of(value),
    )
