"""What the refs reach: the objects and blobs that must be kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from deltavcs.errors import DeltaVCSError
from deltavcs.objects.model import Manifest
from deltavcs.objects.store import ObjectStore
from deltavcs.oid import BlobId, CommitId
from deltavcs.refs import RefStore


@dataclass(slots=True)
class Closure:
    """Ids that the refs reach.

    Attributes:
        blobs: to the path or tensor that names each, and its commit, for messages.
        broken: what could not be read, with its error.
    """

    commits: set[CommitId] = field(default_factory=set)
    objects: set[str] = field(default_factory=set)
    blobs: dict[BlobId, str] = field(default_factory=dict)
    broken: list[tuple[str, DeltaVCSError]] = field(default_factory=list)


def closure(objects: ObjectStore, refs: RefStore, *, remembered: Iterable[CommitId] = ()) -> Closure:
    """Everything that branches, tags, scores and tasks reach. Collects errors instead of raising them.

    Args:
        remembered: commits that no ref names and that are kept all the same, if they are there. What cannot
            be read below them is no error.
    """
    found = Closure()
    _follow(objects, found, _starts(objects, refs, found))
    _add_bases(objects, found)
    broken, found.broken = found.broken, []
    _follow(objects, found, [("the reflog", c) for c in remembered if objects.has(c)])
    _add_bases(objects, found)
    found.broken = broken
    return found


def _starts(objects: ObjectStore, refs: RefStore, found: Closure) -> list[tuple[str, CommitId]]:
    """Commits that refs name; scores and tasks are visited at once."""
    todo: list[tuple[str, CommitId]] = []
    for ref, oid in _refs(objects, refs, found):
        if ref.startswith(("refs/scores/", "refs/tasks/")):
            domain = "score" if ref.startswith("refs/scores/") else "task"
            _visit(found, ref, oid, partial(objects.get, domain, oid))
        else:
            todo.append((ref, CommitId(oid)))
    return todo


def _follow(objects: ObjectStore, found: Closure, todo: list[tuple[str, CommitId]]) -> None:
    """Visit commits and their ancestors."""
    while todo:
        where, commit = todo.pop()
        if commit in found.commits:
            continue
        found.commits.add(commit)
        found.objects.add(commit)
        try:
            value = objects.get_commit(commit)
        except DeltaVCSError as exc:
            found.broken.append((f"{where}: commit {commit[:12]}", exc))
            continue
        todo += [(f"{where}, parent {p.role}", p.commit) for p in value.parents]
        if value.stats is not None:
            _visit(found, f"{where}: stats", value.stats, partial(objects.get_stats, value.stats))
        _visit_manifest(objects, found, f"{where}: commit {commit[:12]}", value.manifest)


def _refs(objects: ObjectStore, refs: RefStore, found: Closure) -> Iterator[tuple[str, str]]:
    for ref in refs.names():
        try:
            value = refs.get(ref)
        except DeltaVCSError as exc:
            found.broken.append((ref, exc))
            continue
        if isinstance(value, str):
            yield ref, value
    for key in refs.strays():  # a second copy that a sync tool made may be the only name of its commits
        stray = refs.peek(key)
        if isinstance(stray, str) and objects.has(stray):
            yield key, stray


def _visit(found: Closure, where: str, oid: str, read: Callable[[], object]) -> None:
    if oid in found.objects:
        return
    found.objects.add(oid)
    try:
        read()
    except DeltaVCSError as exc:
        found.broken.append((where, exc))


def _visit_manifest(objects: ObjectStore, found: Closure, where: str, oid: str) -> None:
    if oid in found.objects:
        return
    found.objects.add(oid)
    try:
        manifest: Manifest = objects.get_manifest(oid)
    except DeltaVCSError as exc:
        found.broken.append((where, exc))
        return
    for file in manifest.files:
        found.blobs.setdefault(file.blob, f"{where}, {file.path}")
    for key, tensor in manifest.tensors.items():
        found.blobs.setdefault(tensor.blob, f"{where}, {key}")


def _add_bases(objects: ObjectStore, found: Closure) -> None:
    """Delta bases and operands of the blobs, down to the last."""
    todo = list(found.blobs)
    while todo:
        blob = todo.pop()
        try:
            stored = objects.blobs.stored(blob)
        except DeltaVCSError as exc:
            found.broken.append((found.blobs[blob], exc))
            continue
        below = [stored.prefix.head.base] if stored.prefix.head.base else []
        below += [x.blob for x in stored.derivation.inputs] if stored.derivation else []
        for base in below:
            if base not in found.blobs:
                found.blobs[base] = f"{found.blobs[blob]} (base)"
                todo.append(base)
