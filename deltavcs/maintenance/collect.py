"""Garbage collection: plan, then execute; never while a writer is at work (spec §8)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, IntegrityError
from deltavcs.history.reachable import closure
from deltavcs.maintenance.roots import check_refs_are_there, last_values, remembered_commits
from deltavcs.objects.packstore import index_key, pack_key
from deltavcs.objects.small import object_key
from deltavcs.objects.store import GC_LOCK, ObjectStore
from deltavcs.oid import PackId
from deltavcs.refs import RefStore
from deltavcs.storage.workspace import sweep


@dataclass(frozen=True, slots=True)
class GcPlan:
    """What nothing refers to any more.

    Attributes:
        packs: those without a single blob in use. A pack that is partly in use stays whole.
        objects: ids of small objects.
        indexes: keys of pack indexes without a pack.
        n_bytes: what removing it all gives back.
        n_idle_bytes: unused blobs in packs that stay.
    """

    packs: tuple[PackId, ...]
    objects: tuple[str, ...]
    indexes: tuple[str, ...]
    n_bytes: int
    n_idle_bytes: int


def plan_gc(objects: ObjectStore, refs: RefStore, *, keep_since: int) -> GcPlan:
    """Find what no ref reaches, and no ref has reached for a while.

    Args:
        keep_since: microseconds since 1970-01-01 UTC; commits that a ref named then or later are kept.

    Raises:
        IntegrityError: the repository is damaged; what is in use cannot be told, so nothing may go.
    """
    objects.packs.refresh()
    all_packs = objects.packs.table.packs
    moves = list(refs.log())
    check_refs_are_there(refs, moves)
    found = closure(objects, refs, remembered=remembered_commits(refs, moves, keep_since))
    mended = {ref for ref, last in last_values(moves).items() if last is not None and objects.has(last)}
    if any(where not in mended for where, _ in found.broken) or objects.packs.damaged:
        raise IntegrityError(
            "the repository is damaged, so nothing is removed",
            kind=ErrorKind.CORRUPT,
            advice=Advice.RUN_FSCK,
        )
    used = {bytes.fromhex(b) for b in found.blobs}
    drop: list[PackId] = []
    size = idle = 0
    for pack in sorted(all_packs):
        records = objects.packs.records(pack)
        unused = [r for r in records if r["blob"].tobytes() not in used]
        if len(unused) == len(records):
            drop.append(pack)
            size += objects.storage.path(pack_key(pack)).stat().st_size
        else:
            idle += sum(int(r["entry_bytes"]) for r in unused)
    loose = tuple(oid for oid in objects.ids() if oid not in found.objects)
    size += sum(objects.storage.path(object_key(oid)).stat().st_size for oid in loose)
    indexes = tuple(
        key for key in objects.storage.list("packs")
        if key.endswith(".idx") and not objects.storage.exists(key.removesuffix("idx") + "pack")
    )  # fmt: skip
    return GcPlan(tuple(drop), loose, indexes, size, idle)


def collect(objects: ObjectStore, plan: Callable[[], GcPlan]) -> GcPlan:
    """Make a plan and carry it out, with every writer locked out from before the one to after the other.

    Objects go before packs and a pack before its index, so that a crash leaves what a second run removes.

    Raises:
        ConflictError: `locked` if a writer is at work.
    """
    with objects.storage.lock(GC_LOCK, wait=False):
        sweep(objects.storage)
        chosen = plan()
        for oid in chosen.objects:
            objects.storage.delete(object_key(oid))
        for pack in chosen.packs:
            objects.storage.delete(pack_key(pack))
            objects.storage.delete(index_key(pack))
        for key in chosen.indexes:
            objects.storage.delete(key)
        objects.packs.forget()
    return chosen
