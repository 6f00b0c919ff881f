"""Walks: newest first, and parents after their children."""

from __future__ import annotations

from deltavcs.history.walk import walk, walk_topological
from deltavcs.objects.model import Kind, Parent, Role


def test_walks(repo, history):
    newest_first = [v.message for _, v in walk(repo.objects, [history["r2"]])]
    assert newest_first == ["r2", "r1", "r0", "base"]
    order = [v.message for _, v in walk_topological(repo.objects, [history["merge"], history["r1"]])]
    assert order == ["merge", "r2", "r1", "r0", "base"]  # although the merge's clock is behind


def test_a_long_history_is_walked_without_recursion(repo, put):
    at = None
    for i in range(3000):
        parents = () if at is None else (Parent(at, Role.PREVIOUS),)
        at = put("", *parents, kind=Kind.BASE, time=i)
    assert sum(1 for _ in walk_topological(repo.objects, [at])) == 3000
    assert repo.commit(repo.resolve(f"{at}~2999")).time == 0
