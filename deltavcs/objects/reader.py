"""Reading blobs: any byte range of any blob, decoded and verified chunk by chunk (spec §4).

Every representation is readable chunk by chunk, so memory depends on the chunk size, the depth of
bases and the number of threads, never on the size of a tensor.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import xxhash

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, FormatError, IntegrityError
from deltavcs.objects.chunkcache import Bytes, ChunkCache
from deltavcs.objects.derivation import Derivation, Operand
from deltavcs.objects.domain import parse_domain
from deltavcs.objects.nativeentry import STAGES
from deltavcs.objects.packindex import Location
from deltavcs.objects.storedblob import MAX_BASE_DEPTH, BlobFinder, Copies, StoredBlob
from deltavcs.oid import BlobId
from deltavcs.resources import Profile, Resources, Scratch
from deltavcs.storage import FileReader
from deltavcs.tensors.dtypes import dtype_of

# Derived at a time, with as many of each input.
_BLOCK_ELEMENTS = 1 << 18


class _Nesting(threading.local):
    """Bases of bases that this thread is decoding: each has a buffer of its own."""

    level = 0


class BlobReader:
    """Reads blobs through two functions: where a blob is stored, and the open file of a pack. Thread-safe."""

    def __init__(self, copies: Copies, open_pack: Callable[[Location], FileReader]) -> None:
        self._open_pack = open_pack
        self._finder = BlobFinder(copies, open_pack)
        self._chunks = ChunkCache()
        self._payloads = Scratch()
        self._bases = [Scratch() for _ in range(MAX_BASE_DEPTH + 1)]
        self._nesting = _Nesting()
        self._natives = Scratch()

    def prepare(self, resources: Resources) -> None:
        """Keep as many decoded chunks as work with these resources needs."""
        self._chunks.prepare(resources)

    def stored(self, blob: BlobId) -> StoredBlob:
        """How a blob is stored. Raises as `BlobFinder.find` does."""
        return self._finder.find(blob)

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

    def _read_native(self, stored: StoredBlob, first: int, out: memoryview) -> int:
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

    def _chunk(self, stored: StoredBlob, i: int) -> Bytes:
        """Chunk `i`, decoded, from the cache of all threads; not to be written to."""
        key = (stored.prefix.head.blob, i)
        found = self._chunks.get(key)
        if found is None:
            begin, end = stored.chunk_range(i)
            found = np.empty(end - begin, np.uint8)
            self._decode(stored, i, found.data)
            self._chunks.put(key, found)
        return found

    def _decode(self, stored: StoredBlob, i: int, out: memoryview) -> None:
        """Decode chunk `i` into `out` and verify it."""
        if not self._read_native(stored, i, out):
            self._decode_slowly(stored, i, out)

    def _decode_slowly(self, stored: StoredBlob, i: int, out: memoryview) -> None:
        """Decode a chunk, from another copy of the blob if this one or its base is damaged."""
        try:
            self._decode_checked(stored, i, out)
        except (IntegrityError, FormatError):
            other = self._finder.find_other(stored)
            if other is None:
                raise
            self.read_into(other.prefix.head.blob, stored.chunk_range(i)[0], out)

    def _decode_checked(self, stored: StoredBlob, i: int, out: memoryview) -> None:
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
            )

    def _decode_payload(self, stored: StoredBlob, i: int, out: memoryview) -> None:
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
                advice=Advice.FIND_AND_RESTORE,
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
