"""The object store: small objects by id, blobs by id, and transactions that add to both."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from deltavcs.advice import Advice
from deltavcs.errors import (
    DeltaVCSError,
    ErrorKind,
    FormatError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
)
from deltavcs.objects import model as m
from deltavcs.objects.packindex import (
    MAX_INDEX_BYTES,
    Location,
    PackIndex,
    Records,
    decode_index,
    encode_index,
    make_records,
    scan_pack,
)
from deltavcs.objects.reader import BlobReader
from deltavcs.objects.small import MAX_STORED_BYTES, frame_object, unframe_object
from deltavcs.oid import BlobId, CommitId, ManifestId, PackId, is_oid
from deltavcs.resources import Resources
from deltavcs.storage import FileReader, LocalStorage, Workspace

if TYPE_CHECKING:
    from deltavcs.objects.incoming import Added, NewBlob
    from deltavcs.objects.packwriter import PackWriter

GC_LOCK = "locks/gc"
"""Held shared by whoever adds objects or names them, alone by gc."""
_MAX_OPEN_PACKS = 512


class ObjectStore:
    """Reads objects and blobs. Takes no lock; safe to use from many threads."""

    def __init__(self, storage: LocalStorage) -> None:
        self.storage = storage
        self._index: PackIndex | None = None
        self._files: dict[PackId, FileReader] = {}
        self._pack_bytes: dict[PackId, int] = {}
        self.damaged: dict[PackId, DeltaVCSError] = {}
        self._lock = threading.Lock()
        self.blobs = BlobReader(self.locate, self._open_pack)

    # Small objects

    def get(self, domain: str, oid: str) -> bytes:
        """Content of the object `oid`, which must be of `domain`.

        Raises:
            IntegrityError: `missing-object`, or the object is damaged.
            FormatError: it is of another domain.
        """
        try:
            data = self.storage.read(object_key(oid), max_bytes=MAX_STORED_BYTES)
        except NotFoundError as exc:
            raise IntegrityError(
                f"{domain} {oid[:12]} is not in the repository",
                kind=ErrorKind.MISSING_OBJECT,
                advice=Advice.FIND_MISSING,
            ) from exc
        found, content = unframe_object(oid, data)
        if found != domain:
            raise FormatError(f"object {oid[:12]} is a {found}, not a {domain}", kind=ErrorKind.BAD_OBJECT)
        return content

    def has(self, oid: str) -> bool:
        """True if there is a small object `oid`."""
        return self.storage.exists(object_key(oid))

    def get_commit(self, oid: str) -> m.Commit:
        """The commit `oid`. Raises as `get` does."""
        return m.decode_commit(self.get("commit", oid))

    def get_manifest(self, oid: str) -> m.Manifest:
        """The manifest `oid`. Raises as `get` does."""
        return m.decode_manifest(self.get("manifest", oid))

    def get_stats(self, oid: str) -> m.Stats:
        """The stats `oid`. Raises as `get` does."""
        return m.decode_stats(self.get("stats", oid))

    def get_score(self, oid: str) -> m.Score:
        """The score `oid`. Raises as `get` does."""
        return m.decode_score(self.get("score", oid))

    def ids(self) -> Iterator[str]:
        """Ids of all small objects, sorted."""
        for key in self.storage.list("objects"):
            oid = key.removeprefix("objects/").replace("/", "")
            if is_oid(oid):
                yield oid

    def ids_with_prefix(self, prefix: str) -> list[str]:
        """Ids of the small objects that begin with `prefix`, at least 2 hexadecimal digits."""
        keys = self.storage.list(f"objects/{prefix[:2]}")
        ids = (key.removeprefix("objects/").replace("/", "") for key in keys)
        return [oid for oid in ids if is_oid(oid) and oid.startswith(prefix)]

    # Blobs

    def locate(self, blob: BlobId) -> Location | None:
        """Where a blob is stored; looks again for new packs before it says None."""
        found = self.index.find(blob)
        if found is None:
            # Look again even if nothing was new: another thread may have refreshed in between.
            self._refresh()
            found = self.index.find(blob)
        return found

    @property
    def index(self) -> PackIndex:
        """The table of all packs."""
        if self._index is None:
            self._refresh()
        assert self._index is not None
        return self._index

    def pack_ids(self) -> frozenset[PackId]:
        """Ids of all packs on disk now. Lists names; reads no index."""
        keys = self.storage.list("packs")
        return frozenset(PackId(k[6:-5]) for k in keys if k.endswith(".pack") and is_oid(k[6:-5]))

    def pack_records(self, pack: PackId) -> Records:
        """The index records of one pack, read now unless the table of all packs is loaded."""
        loaded = self._index.packs.get(pack) if self._index is not None else None
        return loaded if loaded is not None else self._load_index(pack)

    def reindex(self, pack: PackId) -> bool:
        """Rebuild a pack's index from the pack; True if the one on disk was missing or wrong."""
        with self.storage.open(f"packs/{pack}.pack") as file:
            data = encode_index(scan_pack(file), file.size)
        with contextlib.suppress(NotFoundError):
            if self.storage.read(f"packs/{pack}.idx", max_bytes=MAX_INDEX_BYTES) == data:
                return False
        self.storage.put(f"packs/{pack}.idx", data)
        return True

    def index_is_sound(self, pack: PackId) -> bool:
        """True if a pack has an index that is whole and of a pack of this size; reads no entry."""
        try:
            _, size = decode_index(self.storage.read(f"packs/{pack}.idx", max_bytes=MAX_INDEX_BYTES))
        except (NotFoundError, IntegrityError):
            return False
        with self.storage.open(f"packs/{pack}.pack") as file:
            return file.size == size

    def index_agrees(self, pack: PackId, records: Records) -> bool:
        """False if the index of a pack is damaged or does not hold `records`; it may be missing."""
        try:
            found, _ = decode_index(self.storage.read(f"packs/{pack}.idx", max_bytes=MAX_INDEX_BYTES))
        except NotFoundError:
            return True
        except (IntegrityError, FormatError):
            return False
        return np.array_equal(records, found)

    def forget_packs(self) -> None:
        """Drop what was read of the packs, after some were removed."""
        with self._lock:
            # Dropped, not closed, as in `_open_pack`.
            self._files.clear()
            self._index = None
            self.blobs = BlobReader(self.locate, self._open_pack)

    def _refresh(self) -> bool:
        """Load the indexes of new packs; True if there were any."""
        with self._lock:
            known = self._index.packs if self._index else {}
            on_disk = self.pack_ids()
            if self._index is not None and on_disk == known.keys():
                return False
            records = {x: known[x] if x in known else self._load_index(x) for x in sorted(on_disk)}
            self._index = PackIndex(records)
            return True

    def _load_index(self, pack: PackId) -> Records:
        """A pack's records; from the pack itself if its index is missing or damaged."""
        try:
            return self._load_records(pack)
        except NotFoundError:  # removed by a gc since the packs were listed: readers take no lock
            return make_records([])

    def _load_records(self, pack: PackId) -> Records:
        try:
            records, size = decode_index(self.storage.read(f"packs/{pack}.idx", max_bytes=MAX_INDEX_BYTES))
        except (NotFoundError, IntegrityError):
            return self._scan(pack)
        with self.storage.open(f"packs/{pack}.pack") as file:
            fits = file.size == size
        if not fits:  # the index of another pack, or a pack that was cut: then the index is all there is
            scanned = self._scan(pack)
            if len(scanned):
                return scanned
        self._pack_bytes[pack] = size
        return records

    def _scan(self, pack: PackId) -> Records:
        # One bad pack must not make the checkpoints in the others unreadable: it holds nothing, its
        # blobs are reported missing when they are asked for, and fsck shows why.
        try:
            with self.storage.open(f"packs/{pack}.pack") as file:
                return scan_pack(file)
        except (IntegrityError, FormatError) as exc:
            self.damaged[pack] = exc
            return make_records([])

    def _open_pack(self, where: Location) -> FileReader:
        with self._lock:
            file = self._files.get(where.pack)
            if file is None:
                if len(self._files) >= _MAX_OPEN_PACKS:
                    # Dropped, not closed: another thread may be reading it; the last user closes it.
                    self._files.pop(next(iter(self._files)))
                file = self._open_checked(where.pack)
                self._files[where.pack] = file
            return file

    def _open_checked(self, pack: PackId) -> FileReader:
        file = self.storage.open(f"packs/{pack}.pack")
        expected = self._pack_bytes.get(pack, file.size)
        if file.size != expected:
            raise IntegrityError(
                f"pack {pack[:12]} has {file.size} bytes instead of {expected}",
                kind=ErrorKind.TRUNCATED,
                advice=Advice.RESTORE_PACK,
            )
        return file

    def knows(self, blob: BlobId) -> bool:
        """True if `blob` is in a pack that was there when the packs were last listed."""
        return self.index.find(blob) is not None

    @contextlib.contextmanager
    def transaction(self, resources: Resources, *, level: int) -> Iterator[Transaction]:
        """Write objects. The caller moves the ref inside the block, after `Transaction.finish`."""
        from deltavcs.objects.packwriter import PackWriter

        with self.storage.lock(GC_LOCK, shared=True), Workspace(self.storage) as workspace:
            self._refresh()
            yield Transaction(
                self, PackWriter(workspace, self.blobs, resources, known=self.knows, level=level)
            )


class Transaction:
    """Blobs and small objects on their way into the repository (spec §8, steps 1 to 4)."""

    def __init__(self, store: ObjectStore, writer: PackWriter) -> None:
        self._store = store
        self._writer = writer
        self._objects: list[tuple[str, bytes]] = []

    def add_blobs(self, blobs: Iterable[NewBlob]) -> Iterator[Added]:
        """Store blobs; see `PackWriter.add`."""
        return self._writer.add(blobs)

    def put(self, value: m.Manifest | m.Commit | m.Stats | m.Score) -> str:
        """Queue a small object and return its id.

        Raises:
            InvalidInputError: `bad-argument` for a value that no reader would accept, such as a message
                that is too long or not UTF-8.
        """
        try:
            content = value.encode()
            _DECODERS[type(value)](content)
        except (ValueError, FormatError) as exc:
            raise InvalidInputError(
                f"cannot store this {type(value).__name__.lower()}: {exc}", kind=ErrorKind.BAD_ARGUMENT
            ) from exc
        return self.put_raw(type(value).__name__.lower(), content)

    def put_raw(self, domain: str, content: bytes) -> str:
        """Queue a small object given as canonical JSON and return its id."""
        oid, framed = frame_object(domain, content)
        self._objects.append((oid, framed))
        return oid

    def put_manifest(self, manifest: m.Manifest) -> ManifestId:
        """Queue a manifest."""
        return ManifestId(self.put(manifest))

    def put_commit(self, commit: m.Commit) -> CommitId:
        """Queue a commit."""
        return CommitId(self.put(commit))

    def finish(self) -> None:
        """Publish the pack, its index, then the small objects in the order they were queued."""
        self._writer.finish()
        for oid, framed in self._objects:
            self._store.storage.put(object_key(oid), framed, overwrite=False)
        self._objects.clear()


_DECODERS: Mapping[type, Callable[[bytes], object]] = {
    m.Manifest: m.decode_manifest,
    m.Commit: m.decode_commit,
    m.Stats: m.decode_stats,
    m.Score: m.decode_score,
}


def object_key(oid: str) -> str:
    """Storage key of a small object."""
    return f"objects/{oid[:2]}/{oid[2:]}"
