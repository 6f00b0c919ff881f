"""From what a user types to a commit id (spec §7)."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, FormatError, IntegrityError, InvalidInputError, NotFoundError
from deltavcs.objects.model import Commit, Role
from deltavcs.objects.store import ObjectStore
from deltavcs.oid import CommitId, is_oid
from deltavcs.refs import ABSENT, RefStore

MIN_PREFIX = 4
MAX_STEPS = 1_000_000
_STEPS = re.compile(r"[0-9]{1,7}\Z")
_PREFIX = re.compile(r"[0-9a-f]{4,63}\Z")
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Resolved:
    """A revision and the commit it names."""

    revision: str
    commit: CommitId


def resolve(objects: ObjectStore, refs: RefStore, revision: str) -> Resolved:
    """Find the commit that `revision` names.

    Raises:
        NotFoundError: `unknown-revision`, with the fact `similar` where there are such names.
        InvalidInputError: `ambiguous-revision` for a prefix of several commits; `bad-revision` for
            malformed steps.
    """
    name, *steps = revision.split("~")
    commit = _resolve_name(objects, refs, name, revision)
    for step in steps:
        if step and not (_STEPS.match(step) and int(step) <= MAX_STEPS):
            raise InvalidInputError(
                f"{revision!r}: after '~' there must be a number",
                kind=ErrorKind.BAD_REVISION,
                advice=Advice.COUNT_STEPS,
                facts={"name": name},
            )
        for _ in range(int(step or 1)):
            commit = _step_back(objects, commit, revision)
    return Resolved(revision, commit)


def _step_back(objects: ObjectStore, commit: CommitId, revision: str) -> CommitId:
    value = objects.get_commit(commit)
    parent = first_parent(value)
    if parent is None:
        raise NotFoundError(
            f"{revision!r} goes back further than history: {commit[:12]} has no previous commit or base",
            kind=ErrorKind.UNKNOWN_REVISION,
            advice=Advice.SEE_HISTORY,
            facts={"revision": revision.partition("~")[0]},
        )
    return parent


def first_parent(commit: Commit) -> CommitId | None:
    """The parent that `~` follows: `previous`, then `base`."""
    return commit.parent_as(Role.PREVIOUS) or commit.parent_as(Role.BASE)


def _resolve_name(objects: ObjectStore, refs: RefStore, name: str, revision: str) -> CommitId:
    for ref in _candidates(name):
        value = refs.get(ref)
        if value is not ABSENT:
            return CommitId(value)
    if is_oid(name) and _is_commit(objects, name):
        return CommitId(name)
    if _PREFIX.match(name):
        matches = [oid for oid in objects.ids_with_prefix(name) if _is_commit(objects, oid)]
        if len(matches) == 1:
            return CommitId(matches[0])
        if matches:
            raise _ambiguous(objects, name, matches)
    raise _unknown(refs, name, revision)


def _candidates(name: str) -> list[str]:
    if not name or name.startswith("/") or any(p in ("", ".", "..") for p in name.split("/")) or "\0" in name:
        return []
    if len(name.encode(errors="replace")) > 255:
        return []
    exact = [f"refs/{name}"] if name.startswith(("heads/", "tags/")) else []
    return [f"refs/heads/{name}", f"refs/tags/{name}", *exact]


def _is_commit(objects: ObjectStore, oid: str) -> bool:
    try:
        objects.get("commit", oid)
    except FormatError:
        return False
    except IntegrityError as exc:
        if exc.kind is ErrorKind.MISSING_OBJECT:
            return False
        raise
    return True


def _ambiguous(objects: ObjectStore, name: str, matches: list[str]) -> InvalidInputError:
    lines = []
    for oid in matches[:_SHOWN]:
        message = objects.get_commit(oid).message.splitlines()
        lines.append(f"{oid[:16]} {message[0] if message else ''}".rstrip())
    return InvalidInputError(
        f"{name!r} fits {len(matches)} commits: {'; '.join(lines)}",
        kind=ErrorKind.AMBIGUOUS_REVISION,
    )


def _unknown(refs: RefStore, name: str, revision: str) -> NotFoundError:
    names = sorted({ref.split("/", 2)[2] for ref in (*refs.all("refs/heads"), *refs.all("refs/tags"))})
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return NotFoundError(
        f"unknown revision {revision!r}",
        kind=ErrorKind.UNKNOWN_REVISION,
        advice=_advice(is_empty=not names, has_similar=bool(near), has_spaces=" " in revision.strip()),
        facts={"similar": " or ".join(near)} if near else None,
    )


def _advice(*, is_empty: bool, has_similar: bool, has_spaces: bool) -> Advice | None:
    if is_empty:
        return Advice.IMPORT_FIRST
    if has_similar:
        return Advice.SIMILAR_NAMES_OR_EXPRESSION if has_spaces else Advice.SIMILAR_NAMES
    return Advice.NAMES_OR_EXPRESSION if has_spaces else None
