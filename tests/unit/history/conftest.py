"""A small history, and a way to put commits without their content."""

from __future__ import annotations

import pytest

from deltavcs.objects.model import Commit, Kind, Parent, Role
from deltavcs.objects.small import frame_object, object_key
from deltavcs.oid import CommitId, ManifestId
from deltavcs.refs import ABSENT


@pytest.fixture
def put(repo):
    """Stores a commit of a manifest that is not there, and returns its id."""

    def put(message, *parents, kind=Kind.FINETUNE, time=0):
        value = Commit(kind, ManifestId("0" * 64), parents, message=message, time=time)
        oid, framed = frame_object("commit", value.encode())
        repo.storage.put(object_key(oid), framed)
        return CommitId(oid)

    return put


@pytest.fixture
def history(repo, sign, put):
    """base <- r0 <- r1 <- r2 (run, tag: best); r0's base is `base`; a merge of both."""
    found = {"base": put("base", time=1)}
    found["r0"] = put("r0", Parent(found["base"], Role.BASE), time=2)
    for i in (1, 2):
        parents = Parent(found["base"], Role.BASE), Parent(found[f"r{i - 1}"], Role.PREVIOUS)
        found[f"r{i}"] = put(f"r{i}", *parents, time=2 + i)
    found["merge"] = put("merge", Parent(found["r2"], "input"), Parent(found["base"], "input"), time=0)
    names = {
        "heads/base": "base",
        "heads/run": "r2",
        "tags/best": "r1",
        "tags/run": "r0",
        "heads/m/x+y": "merge",
    }
    for name, commit in names.items():
        repo.refs.move(f"refs/{name}", expected=ABSENT, new=found[commit], signature=sign())
    return found
