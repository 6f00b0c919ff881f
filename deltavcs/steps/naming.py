"""Names of commits, for people."""

from __future__ import annotations

from deltavcs.objects.model import Role
from deltavcs.oid import CommitId
from deltavcs.repo import Repository

SHORT = 12
_MAX_STEPS = 64
_TAG = "tag: "


def tips(repo: Repository) -> list[CommitId]:
    """Commits that branches and tags name, without duplicates."""
    named = {**repo.refs.all("refs/heads"), **repo.refs.all("refs/tags")}
    return list(dict.fromkeys(CommitId(v) for v in named.values()))


def names_by_commit(repo: Repository) -> dict[CommitId, list[str]]:
    """Branches, then tags (as `tag: name`), of each commit that has some."""
    found: dict[CommitId, list[str]] = {}
    for ref, value in repo.refs.all("refs/heads").items():
        found.setdefault(CommitId(value), []).append(ref.removeprefix("refs/heads/"))
    for ref, value in repo.refs.all("refs/tags").items():
        found.setdefault(CommitId(value), []).append(_TAG + ref.removeprefix("refs/tags/"))
    return found


def name_of(repo: Repository, commit: CommitId) -> str:
    """A name for a commit: a branch, a tag, `branch~N`, or the beginning of its id."""
    named = names_by_commit(repo)
    branches = {name for names in named.values() for name in names if not name.startswith(_TAG)}
    if commit in named:
        return _revision(named[commit][0], branches)
    for tip, names in named.items():
        at: CommitId | None = tip
        for step in range(1, _MAX_STEPS):
            at = repo.commit(at).parent_as(Role.PREVIOUS) if at else None
            if at == commit:
                return f"{_revision(names[0], branches)}~{step}"
            if at is None:
                break
    return commit[:SHORT]


def _revision(name: str, branches: set[str]) -> str:
    """What names the commit again: a tag that is called as a branch needs its folder."""
    tag = name.removeprefix(_TAG)
    return f"tags/{tag}" if tag != name and tag in branches else tag
