"""Which base a checkpoint stands on, and which base several share."""

from __future__ import annotations

import pytest

from deltavcs.history.ancestors import base_chain, common_base
from deltavcs.objects.model import Kind, Parent, Role


@pytest.fixture
def family(put):
    """base <- middle (a base made from it) <- left, right; other stands on base alone; stray on nothing."""
    found = {"base": put("base", kind=Kind.BASE)}
    found["middle"] = put("middle", Parent(found["base"], Role.BASE), kind=Kind.BASE)
    for name, below in (("left", "middle"), ("right", "middle"), ("other", "base")):
        found[name] = put(name, Parent(found[below], Role.BASE))
    found["stray"] = put("stray")
    return found


@pytest.mark.parametrize(
    ("of", "chain"),
    [
        ("base", ["base"]),
        ("middle", ["middle", "base"]),
        ("left", ["middle", "base"]),
        ("other", ["base"]),
        ("stray", []),
    ],
)
def test_the_bases_below_a_commit(repo, family, of, chain):
    assert base_chain(repo.objects, family[of]) == [family[c] for c in chain]


@pytest.mark.parametrize(
    ("of", "shared"),
    [
        (("left", "right"), "middle"),
        (("left", "middle"), "middle"),
        (("left", "other", "right"), "base"),
        (("left", "stray"), None),
        ((), None),
    ],
)
def test_the_nearest_base_that_all_share(repo, family, of, shared):
    assert common_base(repo.objects, [family[c] for c in of]) == (family[shared] if shared else None)
