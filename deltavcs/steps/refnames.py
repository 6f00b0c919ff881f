"""Branches and tags: listed, made, deleted, renamed."""

from __future__ import annotations

from dataclasses import dataclass

from deltavcs.advice import Advice
from deltavcs.brief import brief
from deltavcs.errors import AlreadyExistsError, ErrorKind, NotFoundError
from deltavcs.objects.store import GC_LOCK
from deltavcs.oid import CommitId
from deltavcs.refs import ABSENT, branch_ref, tag_ref
from deltavcs.repo import Repository
from deltavcs.signature import Signature
from deltavcs.steps.recording import catch_up

BRANCH, TAG = "branch", "tag"
_FULL_NAME = {BRANCH: branch_ref, TAG: tag_ref}
_PREFIX = {BRANCH: "refs/heads/", TAG: "refs/tags/"}


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

    __repr__ = brief


def list_refs(repo: Repository, kind: str) -> list[Ref]:
    """All branches, or all tags, by name."""
    prefix = _PREFIX[kind]
    found = repo.refs.all(prefix.removesuffix("/"))
    return [_describe(repo, ref.removeprefix(prefix), kind, CommitId(v)) for ref, v in sorted(found.items())]


def create_ref(repo: Repository, kind: str, name: str, revision: str, signature: Signature) -> Ref:
    """Make a branch or a tag at a revision.

    Raises:
        AlreadyExistsError: `ref-exists`.
        NotFoundError: an unknown revision.
    """
    repo.check_writable()
    ref = _FULL_NAME[kind](name)
    # A gc must not come between finding a commit that only its id names and naming it.
    with repo.storage.lock(GC_LOCK, shared=True):
        commit = repo.resolve(revision)
        if repo.refs.get(ref) is not ABSENT:
            raise AlreadyExistsError(
                f"{kind} {name} exists already",
                kind=ErrorKind.REF_EXISTS,
                advice=Advice.DELETE_REF_FIRST,
                facts={"ref_kind": kind, "name": name},
            )
        repo.refs.move(ref, expected=ABSENT, new=commit, signature=signature)
    catch_up(repo)
    return _describe(repo, name, kind, commit)


def delete_ref(repo: Repository, kind: str, name: str, signature: Signature) -> Ref:
    """Delete a branch or a tag; its commits stay until they are collected. Raises NotFoundError."""
    repo.check_writable()
    commit = _require(repo, kind, name)
    repo.refs.move(_FULL_NAME[kind](name), expected=commit, new=ABSENT, signature=signature)
    catch_up(repo)
    return _describe(repo, name, kind, commit)


def rename_ref(repo: Repository, kind: str, old: str, new: str, signature: Signature) -> Ref:
    """Rename a branch or a tag: the new name appears before the old one goes, so a crash leaves both or one.

    Raises:
        NotFoundError: there is no `old`.
        AlreadyExistsError: there is a `new`.
    """
    with repo.storage.lock(GC_LOCK, shared=True):  # else a gc could look between the two moves
        commit = _require(repo, kind, old)
        made = create_ref(repo, kind, new, commit, signature)
        repo.refs.move(_FULL_NAME[kind](old), expected=commit, new=ABSENT, signature=signature)
    catch_up(repo)
    return made


def _describe(repo: Repository, name: str, kind: str, commit: CommitId) -> Ref:
    value = repo.commit(commit)
    return Ref(name, kind, commit, str(value.kind), value.message, value.time)


def _require(repo: Repository, kind: str, name: str) -> CommitId:
    value = repo.refs.get(_FULL_NAME[kind](name))
    if value is ABSENT:
        raise NotFoundError(
            f"there is no {kind} {name}",
            kind=ErrorKind.UNKNOWN_REF,
            advice=Advice.LIST_REFS,
            facts={"ref_kind": kind},
        )
    return CommitId(value)
