"""Where a checkpoint comes from, or what was made of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from deltavcs.brief import brief
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.history.walk import walk
from deltavcs.index.queries import descendants
from deltavcs.objects.model import Role
from deltavcs.oid import CommitId
from deltavcs.repo import Repository
from deltavcs.steps.naming import SHORT, names_by_commit
from deltavcs.steps.scorebook import ScoreBook, ScoreLine


@dataclass(frozen=True, slots=True)
class LineageNode:
    """A commit of the lineage."""

    commit: CommitId
    short: str
    names: tuple[str, ...]
    kind: str
    message: str
    task: str | None
    recipe: str | None
    time: int
    scores: tuple[ScoreLine, ...]

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class LineageEdge:
    """A parent, a child, and the part the parent played."""

    parent: CommitId
    child: CommitId
    role: str

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class Lineage:
    """The commits above or below one, nearest first; `nodes[0]` is that one.

    Attributes:
        n_previous: commits of the same runs (role `previous`) that were left out.
    """

    root: CommitId
    direction: str
    nodes: tuple[LineageNode, ...]
    edges: tuple[LineageEdge, ...]
    n_previous: int

    __repr__ = brief


def lineage(repo: Repository, revision: str, *, direction: str = "up", full: bool = False) -> Lineage:
    """Ancestors (`up`) or descendants (`down`) of a revision.

    Args:
        direction: `up` or `down`.
        full: follow `previous` parents too; without it, earlier checkpoints of a run are only counted.

    Raises:
        NotFoundError: `unknown-revision`.
        InvalidInputError: `bad-argument` for another direction.
    """
    if direction not in ("up", "down"):
        raise InvalidInputError(f"direction {direction!r}", kind=ErrorKind.BAD_ARGUMENT)
    root = repo.resolve(revision)
    edges = _up(repo, root, full=full) if direction == "up" else _down(repo, root, full=full)
    kept = [e for e in edges if full or e.role != Role.PREVIOUS]
    order = dict.fromkeys(
        [
            root,
            *(c for e in kept for c in ((e.parent, e.child) if direction == "up" else (e.child, e.parent))),
        ]
    )
    return Lineage(root, direction, _nodes(repo, order), tuple(kept), len(edges) - len(kept))


def _up(repo: Repository, root: CommitId, *, full: bool) -> list[LineageEdge]:
    """Edges to ancestors; of `previous` ones only the first is seen unless `full`."""
    if full:
        return [
            LineageEdge(p.commit, commit, p.role)
            for commit, value in walk(repo.objects, [root])
            for p in value.parents
        ]
    edges: list[LineageEdge] = []
    todo, seen = [root], {root}
    for commit in todo:
        for p in repo.commit(commit).parents:
            edges.append(LineageEdge(p.commit, commit, p.role))
            if p.role != Role.PREVIOUS and p.commit not in seen:
                seen.add(p.commit)
                todo.append(p.commit)
    return edges


def _down(repo: Repository, root: CommitId, *, full: bool) -> list[LineageEdge]:
    found = [LineageEdge(e.parent, e.child, e.role) for e in descendants(repo.index, root)]
    if full:
        return found
    # Earlier checkpoints of a run hang on the base too; only the last of each run is shown.
    earlier = {e.parent for e in found if e.role == Role.PREVIOUS} - {root}
    reached, kept = {root}, []
    for edge in found:
        if edge.role == Role.PREVIOUS or edge.child in earlier:
            kept.append(LineageEdge(edge.parent, edge.child, Role.PREVIOUS))
        elif edge.parent in reached:
            kept.append(edge)
            reached.add(edge.child)
    return kept


def _nodes(repo: Repository, commits: Iterable[CommitId]) -> tuple[LineageNode, ...]:
    names = names_by_commit(repo)
    scores = ScoreBook(repo)
    out = []
    for commit in commits:
        value = repo.commit(commit)
        out.append(
            LineageNode(
                commit=commit,
                short=commit[:SHORT],
                names=tuple(names.get(commit, ())),
                kind=str(value.kind),
                message=value.message,
                task=value.task,
                recipe=value.recipe,
                time=value.time,
                scores=scores.of(value),
            )
        )
    return tuple(out)
