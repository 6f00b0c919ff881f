"""Branches and tags: listed, made, deleted, renamed."""

from __future__ import annotations

from dataclasses import dataclass

from deltavcs.advice import Advice
from deltavcs.brief import brief
from deltavcs.errors import AlreadyExistsError, ErrorKind, IntegrityError, NotFoundError
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
        commit: None for a broken ref that was deleted.
        commit_kind: None if the commit cannot be read.
        time: of its commit, in microseconds since 1970-01-01 UTC; None if that cannot be read.
    """

    name: str
    kind: str
    commit: CommitId | None
    commit_kind: str | None
    message: str
    time: int | None

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
        current = repo.refs.peek(ref)
        if isinstance(current, str):
            raise AlreadyExistsError(
                f"{kind} {name} exists already",
                kind=ErrorKind.REF_EXISTS,
                advice=Advice.DELETE_REF_FIRST,
                facts={"ref_kind": kind, "name": name},
            )
        repo.refs.move(ref, expected=current, new=commit, signature=signature)
    catch_up(repo)
    return _describe(repo, name, kind, commit)


def delete_ref(repo: Repository, kind: str, name: str, signature: Signature) -> Ref:
    """Delete a branch or a tag, also a broken one; its commits stay until they are collected.

    Raises:
        NotFoundError: `unknown-ref`.
    """
    repo.check_writable()
    ref = _FULL_NAME[kind](name)
    current = repo.refs.peek(ref)
    if current is ABSENT:
        raise _unknown(kind, name)
    repo.refs.move(ref, expected=current, new=ABSENT, signature=signature)
    catch_up(repo)
    return _describe(repo, name, kind, CommitId(current) if isinstance(current, str) else None)


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


def _describe(repo: Repository, name: str, kind: str, commit: CommitId | None) -> Ref:
    """What a ref names; a commit that cannot be read is no reason not to say that the ref is there."""
    if commit is None:
        return Ref(name, kind, None, None, "", None)
    try:
        value = repo.commit(commit)
    except IntegrityError:
        return Ref(name, kind, commit, None, "", None)
    return Ref(name, kind, commit, str(value.kind), value.message, value.time)


def _require(repo: Repository, kind: str, name: str) -> CommitId:
    value = repo.refs.get(_FULL_NAME[kind](name))
    if value is ABSENT:
        raise _unknown(kind, name)
    return CommitId(value)


def _unknown(kind: str, name: str) -> NotFoundError:
    return NotFoundError(
        f"there is no {kind} {name}",
        kind=ErrorKind.UNKNOWN_REF,
        advice=Advice.LIST_REFS,
        facts={"ref_kind": kind},
    )
