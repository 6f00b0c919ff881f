"""The packs of a repository: which there are, where each blob lies, and their open files."""

from __future__ import annotations

import contextlib
import threading

import numpy as np

from deltavcs.advice import Advice
from deltavcs.errors import DeltaVCSError, ErrorKind, FormatError, IntegrityError, NotFoundError
from deltavcs.objects.packindex import (
    MAX_INDEX_BYTES,
    BlobTable,
    Location,
    Records,
    decode_index,
    encode_index,
    make_records,
    scan_pack,
)
from deltavcs.objects.reader import BlobReader
from deltavcs.oid import BlobId, PackId, is_oid
from deltavcs.storage import FileReader, LocalStorage

_MAX_OPEN_PACKS = 512


class PackStore:
    """Finds and opens packs. Takes no lock; safe to use from many threads.

    Attributes:
        blobs: reads blobs out of these packs; made anew by `forget`.
        damaged: packs that could not be read when their index was missing, and why.
        cut: packs that are not as long as their index says. Their blobs are looked for in other packs first,
            and do not count as stored.
    """

    def __init__(self, storage: LocalStorage) -> None:
        self._storage = storage
        self._table: BlobTable | None = None
        self._files: dict[PackId, FileReader] = {}
        self._pack_bytes: dict[PackId, int] = {}
        self._lock = threading.Lock()
        self.damaged: dict[PackId, DeltaVCSError] = {}
        self.cut: frozenset[PackId] = frozenset()
        self.blobs = BlobReader(self.copies, self.open)

    # Where blobs lie

    def locate(self, blob: BlobId) -> Location | None:
        """Where a blob is stored; looks again for new packs before it says None."""
        return next(iter(self.copies(blob)), None)

    def copies(self, blob: BlobId, afresh: bool = False) -> list[Location]:
        """Every place where a blob is stored; looks again for new packs before it says that there is none.

        Args:
            afresh: look again whatever is known: the copies that are have proven damaged.
        """
        found = [] if afresh else list(self.table.find_all(blob))
        if not found:
            # Look again even if nothing was new: another thread may have refreshed in between.
            self.refresh()
            found = list(self.table.find_all(blob))
        return found

    def knows(self, blob: BlobId) -> bool:
        """True if `blob` is in a whole pack that was there when the packs were last listed."""
        return any(where.pack not in self.cut for where in self.table.find_all(blob))

    @property
    def table(self) -> BlobTable:
        """The blobs of all packs."""
        return self._table if self._table is not None else self.refresh()

    def refresh(self) -> BlobTable:
        """Load the indexes of packs that are new, and leave out those that are gone or were cut."""
        with self._lock:
            known = self._table.packs if self._table else {}
            on_disk = self.ids()
            records = {x: known[x] if x in known else self._load(x) for x in on_disk}
            cut = frozenset(x for x in on_disk if _is_cut(self._storage, x, self._pack_bytes.get(x)))
            if self._table is None or on_disk != known.keys() or cut != self.cut:
                self.cut = cut
                self._table = BlobTable({x: records[x] for x in sorted(on_disk, key=lambda x: (x in cut, x))})
            return self._table

    def forget(self) -> None:
        """Drop what was read of the packs, after some were removed."""
        with self._lock:
            # Dropped, not closed, as in `open`.
            self._files.clear()
            self._table = None
            self.blobs = BlobReader(self.copies, self.open)

    # Packs and their indexes

    def ids(self) -> frozenset[PackId]:
        """Ids of all packs on disk now. Lists names; reads no index."""
        keys = self._storage.list("packs")
        return frozenset(PackId(k[6:-5]) for k in keys if k.endswith(".pack") and is_oid(k[6:-5]))

    def records(self, pack: PackId, /) -> Records:
        """The index records of one pack, read now unless the table of all packs is loaded."""
        loaded = self._table.packs.get(pack) if self._table is not None else None
        return loaded if loaded is not None else self._load(pack)

    def reindex(self, pack: PackId) -> bool:
        """Rebuild a pack's index from the pack; True if the one on disk was missing or wrong."""
        with self._storage.open(pack_key(pack)) as file:
            data = encode_index(scan_pack(file), file.size)
        with contextlib.suppress(NotFoundError):
            if self._storage.read(index_key(pack), max_bytes=MAX_INDEX_BYTES) == data:
                return False
        self._storage.put(index_key(pack), data)
        return True

    def index_is_sound(self, pack: PackId) -> bool:
        """True if a pack has an index that is whole and of a pack of this size; reads no entry."""
        try:
            _, size = _read_index(self._storage, pack)
        except (NotFoundError, IntegrityError):
            return False
        with self._storage.open(pack_key(pack)) as file:
            return file.size == size

    def index_agrees(self, pack: PackId, records: Records) -> bool:
        """False if the index of a pack is damaged or does not hold `records`; it may be missing."""
        try:
            found, _ = _read_index(self._storage, pack)
        except NotFoundError:
            return True
        except (IntegrityError, FormatError):
            return False
        return np.array_equal(records, found)

    def open(self, where: Location) -> FileReader:
        """The open file of the pack that holds `where`. Whoever calls this does not close it.

        Raises:
            IntegrityError: `truncated` if the pack is not as long as its index says.
            NotFoundError: it was removed.
        """
        with self._lock:
            file = self._files.get(where.pack)
            if file is None:
                if len(self._files) >= _MAX_OPEN_PACKS:
                    # Dropped, not closed: another thread may be reading it; the last user closes it.
                    self._files.pop(next(iter(self._files)))
                file = _open_pack(self._storage, where.pack, self._pack_bytes.get(where.pack))
                self._files[where.pack] = file
            return file

    def _load(self, pack: PackId) -> Records:
        """A pack's records; from the pack itself if its index is missing or damaged."""
        try:
            return self._load_records(pack)
        except NotFoundError:  # removed by a gc since the packs were listed: readers take no lock
            return make_records([])

    def _load_records(self, pack: PackId) -> Records:
        try:
            records, size = _read_index(self._storage, pack)
        except (NotFoundError, IntegrityError):
            return self._scan(pack)
        with self._storage.open(pack_key(pack)) as file:
            fits = file.size == size
        if not fits:  # the index of another pack, or a pack that was cut: then the index is all there is
            scanned = self._scan(pack)
            if len(scanned):
                return scanned
        self._pack_bytes[pack] = size
        return records

    def _scan(self, pack: PackId) -> Records:
        # One bad pack must not make the checkpoints in the others unreadable: it holds nothing, its
        # blobs are reported missing when they are asked for, and a check shows why.
        try:
            with self._storage.open(pack_key(pack)) as file:
                return scan_pack(file)
        except (IntegrityError, FormatError) as exc:
            self.damaged[pack] = exc
            return make_records([])


def pack_key(pack: PackId) -> str:
    """Storage key of a pack."""
    return f"packs/{pack}.pack"


def index_key(pack: PackId) -> str:
    """Storage key of a pack's index."""
    return f"packs/{pack}.idx"


def _open_pack(storage: LocalStorage, pack: PackId, expected: int | None) -> FileReader:
    file = storage.open(pack_key(pack))
    if expected is not None and file.size != expected:
        raise IntegrityError(
            f"pack {pack[:12]} has {file.size} bytes instead of {expected}",
            kind=ErrorKind.TRUNCATED,
            advice=Advice.RESTORE_PACK,
        )
    return file


def _is_cut(storage: LocalStorage, pack: PackId, expected: int | None) -> bool:
    """True if a pack is not as long as its index says."""
    try:
        found = storage.path(pack_key(pack)).stat().st_size
    except FileNotFoundError:  # removed by a gc
        return False
    return expected is not None and found != expected


def _read_index(storage: LocalStorage, pack: PackId) -> tuple[Records, int]:
    return decode_index(storage.read(index_key(pack), max_bytes=MAX_INDEX_BYTES))
