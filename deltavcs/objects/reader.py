"""Reading blobs: any byte range of any blob, decoded and verified chunk by chunk (spec §4).

Every representation is readable chunk by chunk, so memory depends on the chunk size, the depth of
bases and the number of threads, never on the size of a tensor.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from deltavcs import codec
from deltavcs.errors import ErrorKind, FormatError, IntegrityError
from deltavcs.objects import pack as p
from deltavcs.objects.derivation import Derivation, Operand, decode_derivation
from deltavcs.objects.domain import codec_dtype, parse_domain
from deltavcs.objects.nativeentry import STAGES, NativeEntry, open_entry
from deltavcs.objects.packindex import Location, read_prefix
from deltavcs.oid import BlobId
from deltavcs.resources import Profile, Resources, Scratch
from deltavcs.storage import FileReader
from deltavcs.tensors.dtypes import dtype_of

MAX_BASE_DEPTH = 64
# Operators of operators multiply: without a bound, 64 levels of two inputs never end.
MAX_READ_COST = 10_000
# A derived chunk and those of its inputs, which are read in smaller blocks.
_CACHE_PER_THREAD = 8 << 20
# With the default budget, what all blobs that are planned ahead were compared with is still there.
_CACHE_SHARE = 16
# Each holds the side of its tensor and its chunk table.
_CACHED_ENTRIES = 2_000
_BLOCK_ELEMENTS = 1 << 18

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Stored:
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


class _Nesting(threading.local):
    """Bases of bases that this thread is decoding: each has a buffer of its own."""

    level = 0


class BlobReader:
    """Reads blobs through two functions: where a blob is, and the open file of a pack. Thread-safe."""

    def __init__(
        self, locate: Callable[[BlobId], Location | None], open_pack: Callable[[Location], FileReader]
    ) -> None:
        self._locate = locate
        self._open_pack = open_pack
        self._stored: OrderedDict[BlobId, Stored] = OrderedDict()
        self._lock = threading.Lock()
        # Bases are read again and again: to choose how to store a blob, to encode it, to compare it.
        self._cache_bytes = _CACHE_PER_THREAD
        self._chunks: OrderedDict[tuple[str, int], Bytes] = OrderedDict()
        self._chunk_bytes = 0
        self._payloads = Scratch()
        self._bases = [Scratch() for _ in range(MAX_BASE_DEPTH + 1)]
        self._nesting = _Nesting()
        self._natives = Scratch()

    def prepare(self, resources: Resources) -> None:
        """Keep as many decoded chunks as work with these resources needs."""
        least = _CACHE_PER_THREAD * resources.threads
        self._cache_bytes = max(least, resources.memory_bytes // _CACHE_SHARE)

    def stored(self, blob: BlobId) -> Stored:
        """The prefix of a blob's entry, verified, with its bases checked to exist and to end.

        Raises:
            IntegrityError: the blob or one of its bases is missing, damaged, or part of a cycle.
        """
        return self._resolve(blob, ())

    def read_into(self, blob: BlobId, start: int, out: Any) -> None:
        """Fill `out` with the bytes of `blob` from `start` on.

        Raises:
            IntegrityError: `missing-object`, `missing-base`, `hash-mismatch`, `truncated` or `corrupt`.
        """
        stored = self.stored(blob)
        view = memoryview(out).cast("B")
        raw = stored.prefix.head.raw_bytes
        if start < 0 or start + len(view) > raw:
            raise IntegrityError(
                f"blob {blob[:12]} has {raw} bytes; {start + len(view)} are needed", kind=ErrorKind.CORRUPT
            )
        log2 = stored.prefix.head.chunk_log2
        done = 0
        while done < len(view):
            i = (start + done) >> log2
            low = i << log2
            high = min(low + (1 << log2), raw)
            take = min(high - start, len(view)) - done
            piece = view[done : done + take]
            if start + done != low or take < high - low:
                at = start + done - low
                piece[:] = self._chunk(stored, i).data[at : at + take]
            elif natively := self._read_native(stored, i, view[done:]):
                take = natively
            else:
                self._decode_slowly(stored, i, piece)
            done += take

    def copy(self, blob: BlobId, start: int, n_bytes: int, to: int, at: int, profile: Profile) -> int:
        """Write chunks of `blob`, from byte `start` on, to position `at` of the file open as `to`.

        Returns:
            How many bytes of `n_bytes` were done: whole chunks, and none where `read_into` must do the work
            or tell what is wrong. What was done is proven.
        """
        stored = self.stored(blob)
        head = stored.prefix.head
        first = start >> head.chunk_log2
        if stored.native is None or first << head.chunk_log2 != start or start + n_bytes > head.raw_bytes:
            return 0
        rest = start + n_bytes == head.raw_bytes
        count = head.n_chunks - first if rest else n_bytes >> head.chunk_log2
        files = [self._open_pack(where) for where in stored.links]
        scratch = self._natives.take(stored.native.scratch_bytes)
        run = stored.native.copy(tuple(f.fileno() for f in files), first, count, to, at, scratch)
        done = min(run.chunks << head.chunk_log2, n_bytes)
        for stage, seconds in zip(STAGES, run.seconds, strict=True):
            profile.add(stage, seconds, done)
        return done

    def _read_native(self, stored: Stored, first: int, out: memoryview) -> int:
        """Fill the front of `out` with chunks from `first` on; returns the bytes done, perhaps none."""
        if stored.native is None:
            return 0
        base = stored.prefix.head.base
        # Told by the first chunk: whoever keeps chunks of a base asks for one chunk at a time.
        if base is not None and (base, first) in self._chunks:
            return 0
        log2 = stored.prefix.head.chunk_log2
        files = [self._open_pack(where) for where in stored.links]
        scratch = self._natives.take(stored.native.scratch_bytes)
        run = stored.native.read(tuple(f.fileno() for f in files), first, out, scratch)
        return min(run.chunks << log2, stored.prefix.head.raw_bytes - (first << log2))

    def read(self, blob: BlobId, *, max_bytes: int) -> bytes:
        """Return all bytes of a small blob.

        Raises:
            FormatError: `limit-exceeded` if it has more than `max_bytes`.
        """
        size = self.stored(blob).prefix.head.raw_bytes
        if size > max_bytes:
            raise FormatError(
                f"blob {blob[:12]} has {size} bytes; at most {max_bytes} are allowed",
                kind=ErrorKind.LIMIT_EXCEEDED,
            )
        out = bytearray(size)
        self.read_into(blob, 0, out)
        return bytes(out)

    def _resolve(self, blob: BlobId, above: tuple[BlobId, ...]) -> Stored:
        with self._lock:
            found = self._stored.get(blob)
        if found is not None:
            return found
        if blob in above or len(above) > MAX_BASE_DEPTH:
            raise _too_deep(above[0])
        stored = self._load(blob, above)
        if stored.depth > MAX_BASE_DEPTH or stored.cost > MAX_READ_COST:
            raise _too_deep(blob)
        with self._lock:
            self._stored[blob] = stored
            if len(self._stored) > _CACHED_ENTRIES:
                self._stored.popitem(last=False)
        return stored

    def _load(self, blob: BlobId, above: tuple[BlobId, ...]) -> Stored:
        where = self._locate(blob)
        if where is None:
            raise _missing(blob, above)
        file = self._open_pack(where)
        prefix = read_prefix(file, where.offset)
        head = prefix.head
        if head.blob != blob:
            raise _corrupt(where, f"holds {head.blob[:12]} where {blob[:12]} should be")
        derivation = decode_derivation(prefix.side, prefix.domain) if head.codec == p.DERIVED else None
        decoder = (
            None if derivation else codec.open_decoder(head.codec, codec_dtype(prefix.domain), prefix.side)
        )
        below = [head.base] if head.base else []
        if derivation:
            below += [x.blob for x in derivation.inputs]
        if derivation and (head.base or head.payload_bytes):
            raise _corrupt(where, f"stores {blob[:12]} as a derivation with bytes of its own")
        if not derivation and codec.needs_base(codec.CodecId(head.codec)) != bool(head.base):
            raise _corrupt(where, f"stores {blob[:12]} with a base that does not fit its codec")
        found = [self._resolve(b, (*above, blob)) for b in below]
        if head.base and codec_dtype(found[0].prefix.domain) != codec_dtype(prefix.domain):
            raise _corrupt(where, f"stores {blob[:12]} against a base of another dtype")
        depth = max((x.depth + 1 for x in found), default=0)
        cost = 1 + sum(x.cost for x in found)
        base = found[0] if head.base else None
        native = _open_native(where, prefix, decoder, base) if decoder is not None else None
        links = (where, *(base.links if base is not None else ()))
        return Stored(where, prefix, decoder, derivation, depth, cost, native, links)

    def _chunk(self, stored: Stored, i: int) -> Bytes:
        """Chunk `i`, decoded, from the cache of all threads; not to be written to."""
        key = (stored.prefix.head.blob, i)
        with self._lock:
            found = self._chunks.get(key)
            if found is not None:
                self._chunks.move_to_end(key)
                return found
        low = i << stored.prefix.head.chunk_log2
        size = min(1 << stored.prefix.head.chunk_log2, stored.prefix.head.raw_bytes - low)
        found = np.empty(size, np.uint8)
        self._decode(stored, i, found.data)
        with self._lock:
            if key not in self._chunks:
                self._chunks[key] = found
                self._chunk_bytes += size
            while self._chunk_bytes > self._cache_bytes and len(self._chunks) > 1:
                self._chunk_bytes -= len(self._chunks.popitem(last=False)[1])
        return found

    def _decode(self, stored: Stored, i: int, out: memoryview) -> None:
        """Decode chunk `i` into `out` and verify it."""
        if not self._read_native(stored, i, out):
            self._decode_slowly(stored, i, out)

    def _decode_slowly(self, stored: Stored, i: int, out: memoryview) -> None:
        if stored.derivation is not None:
            low = i << stored.prefix.head.chunk_log2
            self.derive(stored.derivation, stored.prefix.domain, low, out)
        else:
            self._decode_payload(stored, i, out)
        if xxhash.xxh3_64_intdigest(out) != int(stored.prefix.chunks["xxh3"][i]):
            raise IntegrityError(
                f"chunk {i} of blob {stored.prefix.head.blob[:12]} in pack {stored.where.pack[:12]}"
                " does not have the bytes that were stored",
                kind=ErrorKind.HASH_MISMATCH,
                hint="Run 'dvx fsck --full' to see all damage, and restore the pack from a copy.",
            )

    def _decode_payload(self, stored: Stored, i: int, out: memoryview) -> None:
        prefix = stored.prefix
        length = int(prefix.chunks["length"][i])
        file = self._open_pack(stored.where)
        start = stored.where.offset + int(prefix.starts[i])
        base = None
        if prefix.head.base is not None:
            base = self._base_of(prefix.head.base, i << prefix.head.chunk_log2, len(out))
        assert stored.decoder is not None
        # Only now: reading the base took this thread's scratch for payloads of its own.
        payload = file.borrow(start, length, self._payloads)
        try:
            stored.decoder.decode(payload, base, out)
        except FormatError as exc:
            raise IntegrityError(
                f"chunk {i} of blob {prefix.head.blob[:12]} in pack {stored.where.pack[:12]}"
                f" is damaged: {exc}",
                kind=ErrorKind.CORRUPT,
                hint="Run 'dvx fsck --full' to see all damage, and restore the pack from a copy.",
            ) from exc

    def _base_of(self, blob: BlobId, start: int, n_bytes: int) -> Bytes:
        """As `padded`, for the one use of a chunk's base: the cache stays as it is."""
        stored = self.stored(blob)
        head = stored.prefix.head
        i = start >> head.chunk_log2
        whole = min(1 << head.chunk_log2, head.raw_bytes - start) == n_bytes and i << head.chunk_log2 == start
        if not whole or (blob, i) in self._chunks:
            return self.padded(blob, start, n_bytes)
        level = self._nesting.level
        self._nesting.level = level + 1
        try:
            out = self._bases[level].take(n_bytes)
            self._decode(stored, i, out)
        finally:
            self._nesting.level = level
        return np.frombuffer(out, np.uint8)

    def padded(self, blob: BlobId, start: int, n_bytes: int) -> Bytes:
        """Bytes `start` to `start + n_bytes` of a blob, with zeros after its end."""
        stored = self.stored(blob)
        head = stored.prefix.head
        have = max(0, min(head.raw_bytes - start, n_bytes))
        i, at = start >> head.chunk_log2, start & ((1 << head.chunk_log2) - 1)
        if have == n_bytes and have and at + have <= 1 << head.chunk_log2:
            return self._chunk(stored, i)[at : at + have]
        out = np.zeros(n_bytes, np.uint8)
        if have:
            self.read_into(blob, start, out.data[:have])
        return out

    def derive(self, derivation: Derivation, domain: str, start: int, out: memoryview) -> None:
        """Compute the bytes of a derived blob from `start` on (spec §4.1).

        Works in blocks that bound the memory. `start` and `out` hold whole elements.
        """
        from deltavcs.operators.evaluate import evaluate_stored
        from deltavcs.operators.parse import parse

        tensor = parse_domain(domain)
        assert tensor is not None
        operation = parse(derivation.op, derivation.params, len(derivation.inputs))
        itemsize = dtype_of(tensor[0]).itemsize
        first, n = start // itemsize, len(out) // itemsize
        for at in range(0, n, _BLOCK_ELEMENTS):
            end = min(at + _BLOCK_ELEMENTS, n)
            inputs = [self._elements(x, first + at, end - at) for x in derivation.inputs]
            evaluate_stored(operation, inputs, first + at, tensor[0], out[at * itemsize : end * itemsize])

    def _elements(self, operand: Operand, first: int, count: int) -> tuple[str, Bytes]:
        """Dtype and elements of an input, as many as it has."""
        tensor = parse_domain(self.stored(operand.blob).prefix.domain)
        if tensor is None or not dtype_of(tensor[0]).arithmetic:
            raise IntegrityError(f"blob {operand.blob[:12]} cannot be an operand", kind=ErrorKind.CORRUPT)
        itemsize = dtype_of(tensor[0]).itemsize
        have = max(0, min(operand.elements - first, count))
        return tensor[0], self.padded(operand.blob, first * itemsize, have * itemsize)


def _open_native(
    where: Location, prefix: p.Prefix, decoder: codec.Decoder, base: Stored | None
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
            hint="Restore the missing pack from a copy of the repository.",
        )
    return IntegrityError(
        f"blob {blob[:12]} is not in the repository",
        kind=ErrorKind.MISSING_OBJECT,
        hint="Restore the missing pack from a copy of the repository.",
    )


def _too_deep(blob: BlobId) -> IntegrityError:
    return IntegrityError(
        f"the bases and inputs of blob {blob[:12]} form a cycle, a chain over {MAX_BASE_DEPTH} deep"
        f" or a tree of over {MAX_READ_COST}",
        kind=ErrorKind.DELTA_CYCLE,
    )


def _corrupt(where: Location, what: str) -> IntegrityError:
    return IntegrityError(f"pack {where.pack[:12]} {what}", kind=ErrorKind.CORRUPT)
