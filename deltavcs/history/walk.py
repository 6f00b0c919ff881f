"""Walking history without recursion, newest first."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from deltavcs.objects.model import Commit
from deltavcs.objects.store import ObjectStore
from deltavcs.oid import CommitId


def walk(objects: ObjectStore, tips: Iterable[CommitId]) -> Iterator[tuple[CommitId, Commit]]:
    """Yield the commits reachable from `tips`, each once, newest first.

    A commit comes before its parents wherever their clocks agree; reads as few commits as the
    caller takes, plus the tips.
    """
    heap: list[tuple[int, CommitId]] = []
    loaded: dict[CommitId, Commit] = {}

    def push(commit: CommitId) -> None:
        if commit not in loaded:
            loaded[commit] = objects.get_commit(commit)
            heapq.heappush(heap, (-loaded[commit].time, commit))

    for tip in tips:
        push(tip)
    while heap:
        _, commit = heapq.heappop(heap)
        value = loaded[commit]
        yield commit, value
        for parent in value.parents:
            push(parent.commit)


def walk_topological(objects: ObjectStore, tips: Iterable[CommitId]) -> Iterator[tuple[CommitId, Commit]]:
    """Like `walk`, but a commit always comes before its parents: reads all of history first."""
    commits = dict(walk(objects, tips))
    waiting = dict.fromkeys(commits, 0)
    for value in commits.values():
        for parent in {p.commit for p in value.parents}:
            waiting[parent] += 1
    heap = [(-commits[c].time, c) for c, n in waiting.items() if not n]
    heapq.heapify(heap)
    while heap:
        _, commit = heapq.heappop(heap)
        yield commit, commits[commit]
        for parent in {p.commit for p in commits[commit].parents}:
            waiting[parent] -= 1
            if not waiting[parent]:
                heapq.heappush(heap, (-commits[parent].time, parent))
