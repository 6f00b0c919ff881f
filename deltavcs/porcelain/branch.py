"""`dvx branch` and `dvx tag`: names for commits."""

from __future__ import annotations

from dataclasses import dataclass

from deltavcs.errors import AlreadyExistsError, ErrorKind, NotFoundError
from deltavcs.objects.store import GC_LOCK
from deltavcs.oid import CommitId
from deltavcs.refs import ABSENT, branch_ref, tag_ref
from deltavcs.repo import Repository
from deltavcs.signature import Signature
from deltavcs.steps.recording import catch_up


@dataclass(frozen=True, slots=True)
class Ref:
    """A branch or a tag.

    Attributes:
        kind: `branch` or `tag`.
        time: of its commit, in microseconds since 1970-01-01 UTC.
    """

    name: str
    kind: str
    commit: CommitId
    commit_kind: str
    message: str
    time: int


def branches(repo: Repository) -> list[Ref]:
    """All branches by name."""
    return _listed(repo, "refs/heads/", "branch")


def tags(repo: Repository) -> list[Ref]:
    """All tags by name."""
    return _listed(repo, "refs/tags/", "tag")


def create_branch(repo: Repository, name: str, revision: str, *, signature: Signature) -> Ref:
    """Make a branch at a revision. Raises AlreadyExistsError if there is one."""
    return _create(repo, branch_ref(name), name, "branch", revision, signature)


def create_tag(repo: Repository, name: str, revision: str, *, signature: Signature) -> Ref:
    """Make a tag at a revision. Raises AlreadyExistsError if there is one."""
    return _create(repo, tag_ref(name), name, "tag", revision, signature)


def delete_branch(repo: Repository, name: str, *, signature: Signature) -> Ref:
    """Delete a branch; its commits stay until `dvx gc`. Raises NotFoundError."""
    return _delete(repo, branch_ref(name), name, "branch", signature)


def delete_tag(repo: Repository, name: str, *, signature: Signature) -> Ref:
    """Delete a tag. Raises NotFoundError."""
    return _delete(repo, tag_ref(name), name, "tag", signature)


def rename_branch(repo: Repository, old: str, new: str, *, signature: Signature) -> Ref:
    """Rename a branch: the new name appears before the old one goes, so a crash leaves both or one.

    Raises:
        NotFoundError: there is no branch `old`.
        AlreadyExistsError: there is a branch `new`.
    """
    with repo.storage.lock(GC_LOCK, shared=True):  # else a gc could look between the two moves
        commit = _require(repo, branch_ref(old), old, "branch")
        made = _create(repo, branch_ref(new), new, "branch", commit, signature)
        repo.refs.move(branch_ref(old), expected=commit, new=ABSENT, signature=signature)
    catch_up(repo)
    return made


def _listed(repo: Repository, prefix: str, kind: str) -> list[Ref]:
    found = repo.refs.all(prefix.removesuffix("/"))
    return [_describe(repo, ref.removeprefix(prefix), kind, CommitId(v)) for ref, v in sorted(found.items())]


def _describe(repo: Repository, name: str, kind: str, commit: CommitId) -> Ref:
    value = repo.commit(commit)
    return Ref(name, kind, commit, str(value.kind), value.message, value.time)


def _create(repo: Repository, ref: str, name: str, kind: str, revision: str, signature: Signature) -> Ref:
    repo.check_writable()
    # A gc must not come between finding a commit that only its id names and naming it.
    with repo.storage.lock("locks/gc", shared=True):
        commit = repo.resolve(revision)
        if repo.refs.get(ref) is not ABSENT:
            raise AlreadyExistsError(
                f"{kind} {name} exists already",
                kind=ErrorKind.REF_EXISTS,
                hint=f"Choose another name, or delete it first: dvx {kind} --delete {name}",
            )
        repo.refs.move(ref, expected=ABSENT, new=commit, signature=signature)
    catch_up(repo)
    return _describe(repo, name, kind, commit)


def _delete(repo: Repository, ref: str, name: str, kind: str, signature: Signature) -> Ref:
    repo.check_writable()
    commit = _require(repo, ref, name, kind)
    repo.refs.move(ref, expected=commit, new=ABSENT, signature=signature)
    catch_up(repo)
    return _describe(repo, name, kind, commit)


def _require(repo: Repository, ref: str, name: str, kind: str) -> CommitId:
    value = repo.refs.get(ref)
    if value is ABSENT:
        raise NotFoundError(
            f"there is no {kind} {name}",
            kind=ErrorKind.UNKNOWN_REF,
            hint=f"Use 'dvx {kind}' to list them.",
        )
    return CommitId(value)
