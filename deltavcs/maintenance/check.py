"""Checking a repository: structure always, every byte on request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from blake3 import blake3

from deltavcs.advice import Advice
from deltavcs.brief import brief
from deltavcs.errors import DeltaVCSError, ErrorKind, IntegrityError
from deltavcs.history.reachable import Closure, closure
from deltavcs.maintenance.roots import check_refs_are_there
from deltavcs.objects.domain import hash_blob
from deltavcs.objects.packindex import scan_pack
from deltavcs.objects.packstore import pack_key
from deltavcs.objects.store import ObjectStore
from deltavcs.oid import BlobId, PackId
from deltavcs.pool import Pool
from deltavcs.refs import RefStore
from deltavcs.resources import SPAN_BYTES, Resources
from deltavcs.storage import FileReader


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong: the error's kind, where, what, and what would help."""

    kind: str
    where: str
    detail: str
    advice: Advice | None = None

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class CheckCounts:
    """What was looked at."""

    n_refs: int
    n_commits: int
    n_objects: int
    n_blobs: int
    n_packs: int
    n_bytes_decoded: int


def check(
    objects: ObjectStore, refs: RefStore, *, full: bool, resources: Resources
) -> tuple[list[Problem], CheckCounts]:
    """Check that everything the refs reach is there and well-formed.

    Args:
        full: also hash every pack, decode every blob and derive its id anew.
    """
    packs = sorted(objects.packs.table.packs)
    problems = [_problem(f"pack {pack[:12]}", exc) for pack, exc in objects.packs.damaged.items()]
    problems += _check_refs(refs)
    found = closure(objects, refs)
    problems += [_problem(where, exc) for where, exc in found.broken]
    decoded = 0
    for pack in packs:
        problems += _check_pack(objects, pack, full=full)
    if full:
        for problem, size in _check_blobs(objects, found, resources):
            decoded += size
            if problem is not None:
                problems.append(problem)
    counts = CheckCounts(
        n_refs=sum(1 for _ in refs.names()),
        n_commits=len(found.commits),
        n_objects=len(found.objects),
        n_blobs=len(found.blobs),
        n_packs=len(packs),
        n_bytes_decoded=decoded,
    )
    return list(dict.fromkeys(problems)), counts


def _check_refs(refs: RefStore) -> Iterator[Problem]:
    """The names that the reflog knows are not all gone."""
    try:
        check_refs_are_there(refs, list(refs.log()))
    except IntegrityError as exc:
        yield Problem(str(exc.kind), "refs", exc.message, exc.advice)


def _problem(where: str, exc: DeltaVCSError) -> Problem:
    return Problem(str(exc.kind), where, exc.message)


def _check_pack(objects: ObjectStore, pack: PackId, *, full: bool) -> Iterator[Problem]:
    """The pack walks, its index agrees, and with `full` its bytes hash to its name."""
    where = f"pack {pack[:12]}"
    try:
        with objects.storage.open(pack_key(pack)) as file:
            records = scan_pack(file)
            if pack not in objects.packs.damaged and not objects.packs.index_agrees(pack, records):
                yield Problem("corrupt", where, "its index does not agree with it", Advice.REBUILD_INDEX)
            if full and _hash_file(file) != pack:
                yield Problem("hash-mismatch", where, "its bytes do not hash to its name")
    except DeltaVCSError as exc:
        yield _problem(where, exc)


def _hash_file(file: FileReader) -> str:
    """BLAKE3-256 of a whole file, in hex, on all cores. Read, not mapped: it may be cut meanwhile."""
    hasher = blake3(max_threads=blake3.AUTO)
    buffer = memoryview(bytearray(min(SPAN_BYTES, file.size)))
    for at in range(0, file.size, SPAN_BYTES):
        block = buffer[: min(SPAN_BYTES, file.size - at)]
        file.read_into(at, block)
        hasher.update(block)
    return hasher.hexdigest()


def _check_blobs(
    objects: ObjectStore, found: Closure, resources: Resources
) -> Iterator[tuple[Problem | None, int]]:
    sizes = {b: _size(objects, b) for b in found.blobs}
    total, done = sum(sizes.values()), 0
    objects.blobs.prepare(resources)
    with Pool(resources) as pool:
        work = pool.map(lambda b: (b, _check_blob(objects, b)), list(found.blobs), size=sizes.__getitem__)
        for blob, exc in work:
            done += sizes[blob]
            resources.progress("checking", done, total)
            yield (_problem(found.blobs[blob], exc) if exc else None), sizes[blob]


def _size(objects: ObjectStore, blob: BlobId) -> int:
    where = objects.packs.locate(blob)
    return where.raw_bytes if where else 0


def _check_blob(objects: ObjectStore, blob: BlobId) -> DeltaVCSError | None:
    """Decode a blob and derive its id from its bytes."""
    try:
        prefix = objects.blobs.stored(blob).prefix
        found = hash_blob(prefix.domain, prefix.head.raw_bytes, partial(objects.blobs.read_into, blob))
    except DeltaVCSError as exc:
        return exc
    if found != blob:
        return IntegrityError(f"blob {blob[:12]} does not hash to its id", kind=ErrorKind.HASH_MISMATCH)
    return None
