"""What an update has to do: compare refs, walk new commits back to known ones, find what fell out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from deltavcs.errors import ErrorKind, IntegrityError
from deltavcs.index.inputs import ObjectReader
from deltavcs.objects.model import Commit
from deltavcs.oid import CommitId, PackId
from deltavcs.pool import Pool

_PREFIXES = {"refs/heads/": "branch", "refs/tags/": "tag", "refs/scores/": "score", "refs/tasks/": "task"}


def split_ref(ref: str) -> tuple[str, str]:
    """Kind and short name of a full ref name."""
    for prefix, kind in _PREFIXES.items():
        if ref.startswith(prefix):
            return kind, ref[len(prefix) :]
    return "other", ref


def tips(refs: Mapping[str, str]) -> set[CommitId]:
    """Commits that branches and tags name."""
    return {CommitId(t) for ref, t in refs.items() if split_ref(ref)[0] in ("branch", "tag")}


class IndexState(Protocol):
    """What the index holds already."""

    @property
    def refs(self) -> Mapping[str, str]:
        """Refs it was derived from."""

    @property
    def packs(self) -> frozenset[PackId]:
        """Packs it has read."""

    def generations(self, commits: Collection[CommitId]) -> dict[CommitId, int]:
        """Generation of those of `commits` that it holds."""

    def parents(self) -> dict[CommitId, list[CommitId]]:
        """Parents of every commit that it holds."""


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """The difference between an index and its repository.

    Attributes:
        refs: all refs as they are now.
        added: commits to add, parents before children.
        generations: of the commits to add.
        removed: commits that no ref reaches any more.
        new_packs, gone_packs: packs that came and went.
    """

    refs: Mapping[str, str]
    added: Mapping[CommitId, Commit] = field(default_factory=dict)
    generations: Mapping[CommitId, int] = field(default_factory=dict)
    removed: frozenset[CommitId] = frozenset()
    new_packs: frozenset[PackId] = frozenset()
    gone_packs: frozenset[PackId] = frozenset()


def make_plan(objects: ObjectReader, refs: Mapping[str, str], known: IndexState, pool: Pool) -> IndexPlan:
    """Compare. Reads only commits that `known` lacks.

    Raises:
        IntegrityError: `delta-cycle` if commits are their own ancestors; and what reading a commit raises.
    """
    wanted = tips(refs)
    found, boundary = _walk(objects, wanted, known, pool)
    dropped = tips(known.refs) - wanted - boundary.keys()
    removed: frozenset[CommitId] = frozenset()
    if dropped:
        removed = _unreachable(wanted | boundary.keys(), known.parents())
    order = _parents_first(found)
    generations = dict(boundary)
    for commit_id in order:
        parents = found[commit_id].parents
        generations[commit_id] = 1 + max((generations[p.commit] for p in parents), default=-1)
    packs = objects.packs.ids()
    return IndexPlan(
        refs=dict(refs),
        added={c: found[c] for c in order},
        generations=generations,
        removed=removed,
        new_packs=packs - known.packs,
        gone_packs=known.packs - packs,
    )


def _walk(
    objects: ObjectReader, start: set[CommitId], known: IndexState, pool: Pool
) -> tuple[dict[CommitId, Commit], dict[CommitId, int]]:
    """New commits, and the known ones that the walk ended at with their generations."""
    found: dict[CommitId, Commit] = {}
    boundary: dict[CommitId, int] = {}
    front = sorted(start)
    while front:
        boundary.update(known.generations(front))
        new = [c for c in front if c not in boundary]
        read: Callable[[CommitId], Commit] = objects.get_commit
        found.update(zip(new, pool.map(read, new) if len(new) > 1 else map(read, new), strict=True))
        parents = dict.fromkeys(p.commit for c in new for p in found[c].parents)
        front = [c for c in parents if c not in found and c not in boundary]
    return found, boundary


def _parents_first(found: Mapping[CommitId, Commit]) -> list[CommitId]:
    waiting = {c: len({p.commit for p in x.parents if p.commit in found}) for c, x in found.items()}
    children: dict[CommitId, list[CommitId]] = {}
    for commit_id, commit in found.items():
        for parent in {p.commit for p in commit.parents}:
            children.setdefault(parent, []).append(commit_id)
    order = [c for c, n in waiting.items() if n == 0]
    for commit_id in order:  # grows while it is walked
        for child in children.get(commit_id, ()):
            waiting[child] -= 1
            if waiting[child] == 0:
                order.append(child)
    if len(order) != len(found):
        raise IntegrityError("commits are their own ancestors", kind=ErrorKind.DELTA_CYCLE)
    return order


def _unreachable(
    start: Collection[CommitId], parents: Mapping[CommitId, list[CommitId]]
) -> frozenset[CommitId]:
    seen = {c for c in start if c in parents}
    stack = list(seen)
    while stack:
        for parent in parents[stack.pop()]:
            if parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return frozenset(parents.keys() - seen)
