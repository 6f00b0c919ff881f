"""How a blob is stored: its entry, proven, and what decodes its chunks, down to the last base (spec §4)."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deltavcs import codec
from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, FormatError, IntegrityError
from deltavcs.objects import pack as p
from deltavcs.objects.derivation import Derivation, decode_derivation
from deltavcs.objects.domain import codec_dtype
from deltavcs.objects.nativeentry import NativeEntry, open_entry
from deltavcs.objects.packindex import Location, read_prefix
from deltavcs.oid import BlobId
from deltavcs.storage import FileReader

# Every place where a blob is stored; with True, packs that came since are looked for first.
Copies = Callable[[BlobId, bool], Sequence[Location]]

MAX_BASE_DEPTH = 64
# Operators of operators multiply: without a bound, 64 levels of two inputs never end.
MAX_READ_COST = 10_000
# Each holds the side of its tensor and its chunk table.
_CACHED_ENTRIES = 2_000


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """One blob as stored: its verified prefix, and what decodes its chunks.

    Attributes:
        depth: of the longest chain of bases and inputs below it.
        cost: entries read for one element, those below it counted each time they are needed.
        native: what reads many chunks at once; None if only the decoder can.
        links: where it and the bases below it are, for `native`.
    """

    where: Location
    prefix: p.Prefix
    decoder: codec.Decoder | None
    derivation: Derivation | None
    depth: int
    cost: int
    native: NativeEntry | None
    links: tuple[Location, ...]

    def chunk_range(self, i: int) -> tuple[int, int]:
        """The raw bytes [begin, end) of chunk `i`."""
        head = self.prefix.head
        begin = i << head.chunk_log2
        return begin, min(begin + (1 << head.chunk_log2), head.raw_bytes)


class BlobFinder:
    """Finds how blobs are stored, and remembers it. Thread-safe.

    Args:
        copies: every place where a blob is stored.
        open_pack: the open file of a pack.
    """

    def __init__(self, copies: Copies, open_pack: Callable[[Location], FileReader]) -> None:
        self._copies = copies
        self._open_pack = open_pack
        self._bad: set[Location] = set()
        self._found: OrderedDict[BlobId, StoredBlob] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, blob: BlobId, above: tuple[BlobId, ...] = ()) -> StoredBlob:
        """The prefix of a blob's entry, verified, with its bases checked to exist and to end.

        Args:
            above: what needs it, the first asked for first.

        Raises:
            IntegrityError: the blob or one of its bases is missing, damaged, or part of a cycle.
        """
        with self._lock:
            found = self._found.get(blob)
        if found is not None:
            return found
        if blob in above or len(above) > MAX_BASE_DEPTH:
            raise _too_deep(above[0])
        stored = self._load(blob, above)
        if stored.depth > MAX_BASE_DEPTH or stored.cost > MAX_READ_COST:
            raise _too_deep(blob)
        with self._lock:
            self._found[blob] = stored
            if len(self._found) > _CACHED_ENTRIES:
                self._found.popitem(last=False)
        return stored

    def find_other(self, stored: StoredBlob) -> StoredBlob | None:
        """Another copy of a blob, one of whose copies has proven damaged; None if there is none."""
        blob = stored.prefix.head.blob
        with self._lock:
            self._bad.add(stored.where)
            self._found.clear()  # what is stored against it holds on to the damaged copy
        places = self._copies(blob, False)
        if all(where in self._bad for where in places):
            places = self._copies(blob, True)  # a pack that mends it
        if all(where in self._bad for where in places):
            return None
        return self.find(blob)

    def _load(self, blob: BlobId, above: tuple[BlobId, ...]) -> StoredBlob:
        """The first copy whose prefix is whole, and that did not prove damaged."""
        places = self._copies(blob, False)
        if not places:
            raise _missing(blob, above)
        whole = [where for where in places if where not in self._bad] or places
        for where in whole[:-1]:
            with contextlib.suppress(IntegrityError, FormatError):
                return self._load_from(where, blob, above)
        try:
            return self._load_from(whole[-1], blob, above)
        except (IntegrityError, FormatError):
            newer = [where for where in self._copies(blob, True) if where not in places]
            if newer:
                return self._load_from(newer[0], blob, above)
            raise

    def _load_from(self, where: Location, blob: BlobId, above: tuple[BlobId, ...]) -> StoredBlob:
        prefix = read_prefix(self._open_pack(where), where.offset)
        head = prefix.head
        if head.blob != blob:
            raise _corrupt(where, f"holds {head.blob[:12]} where {blob[:12]} should be")
        derivation, decoder = _open(where, prefix)
        below = [head.base] if head.base else []
        if derivation:
            below += [x.blob for x in derivation.inputs]
        found = [self.find(b, (*above, blob)) for b in below]
        if head.base and codec_dtype(found[0].prefix.domain) != codec_dtype(prefix.domain):
            raise _corrupt(where, f"stores {blob[:12]} against a base of another dtype")
        depth = max((x.depth + 1 for x in found), default=0)
        cost = 1 + sum(x.cost for x in found)
        base = found[0] if head.base else None
        native = _open_native(where, prefix, decoder, base) if decoder is not None else None
        links = (where, *(base.links if base is not None else ()))
        return StoredBlob(where, prefix, decoder, derivation, depth, cost, native, links)


def _open(where: Location, prefix: p.Prefix) -> tuple[Derivation | None, codec.Decoder | None]:
    """What computes the blob, or what decodes it."""
    head = prefix.head
    if head.codec == p.DERIVED:
        derivation = decode_derivation(prefix.side, prefix.domain)
        if head.base or head.payload_bytes:
            raise _corrupt(where, f"stores {head.blob[:12]} as a derivation with bytes of its own")
        return derivation, None
    decoder = codec.open_decoder(head.codec, codec_dtype(prefix.domain), prefix.side)
    if codec.needs_base(codec.CodecId(head.codec)) != bool(head.base):
        raise _corrupt(where, f"stores {head.blob[:12]} with a base that does not fit its codec")
    return None, decoder


def _open_native(
    where: Location, prefix: p.Prefix, decoder: codec.Decoder, base: StoredBlob | None
) -> NativeEntry | None:
    if base is not None and base.native is None:
        return None
    return open_entry(
        decoder,
        None if base is None else base.native,
        chunk_log2=prefix.head.chunk_log2,
        raw_bytes=prefix.head.raw_bytes,
        starts=prefix.starts + where.offset,
        chunks=prefix.chunks,
    )


def _missing(blob: BlobId, above: tuple[BlobId, ...]) -> IntegrityError:
    # Never NotFound: a handler of absent things must not swallow a broken repository.
    if above:
        return IntegrityError(
            f"blob {above[-1][:12]} needs blob {blob[:12]}, which is not in the repository",
            kind=ErrorKind.MISSING_BASE,
        )
    return IntegrityError(
        f"blob {blob[:12]} is not in the repository",
        kind=ErrorKind.MISSING_OBJECT,
        advice=Advice.RESTORE_PACK,
    )


def _too_deep(blob: BlobId) -> IntegrityError:
    return IntegrityError(
        f"the bases and inputs of blob {blob[:12]} form a cycle, a chain over {MAX_BASE_DEPTH} deep"
        f" or a tree of over {MAX_READ_COST}",
        kind=ErrorKind.DELTA_CYCLE,
    )


def _corrupt(where: Location, what: str) -> IntegrityError:
    return IntegrityError(f"pack {where.pack[:12]} {what}", kind=ErrorKind.CORRUPT)
