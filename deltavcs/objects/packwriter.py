"""Writing blobs into a new pack: hash, choose a representation, encode, append (spec §4, §8).

The stages overlap: blobs are hashed and planned while spans of earlier blobs are encoded, on the same
threads, and the calling thread appends in order. What is in flight is bounded by the budget.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deltavcs.objects import pack as p
from deltavcs.objects.difference import SpanDifference, add_up, measure_span
from deltavcs.objects.domain import codec_dtype
from deltavcs.objects.incoming import AddedBlob, NewBlob
from deltavcs.objects.model import TensorStats
from deltavcs.objects.packindex import encode_index, make_records
from deltavcs.objects.packstore import index_key, pack_key
from deltavcs.objects.planner import BlobPlan, Planner
from deltavcs.objects.reader import BlobReader
from deltavcs.oid import BlobId, PackId
from deltavcs.pool import Pool
from deltavcs.resources import SPAN_BYTES, Resources
from deltavcs.storage import NewFile, Workspace

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _PlannedSpan:
    """Whole chunks of one blob, the unit of encoding."""

    plan: BlobPlan
    start: int
    n_bytes: int


@dataclass(frozen=True, slots=True)
class _EncodedSpan:
    """The payloads of a span, how it differs from its counterpart, and whether its blob ends with it."""

    plan: BlobPlan
    payloads: list[bytes]
    difference: SpanDifference | None
    last: bool


def _raw_bytes(new: NewBlob) -> int:
    # A derivation is all work and no bytes of its own.
    return new.source.size if new.source is not None else SPAN_BYTES


def _span_bytes(span: _PlannedSpan) -> int:
    return span.n_bytes


class PackWriter:
    """Collects blobs into one new pack. For one thread; it runs its own.

    Attributes:
        published_bytes: of the pack and its index, once they are published.

    Args:
        workspace: where the pack is built.
        reader: reads delta bases and operands; sees only what is already in the repository.
        resources: threads and memory.
        known: True for a blob that is in the repository already.
        level: zstd level.

    Attributes:
        reader: as it was given.
    """

    def __init__(
        self,
        workspace: Workspace,
        reader: BlobReader,
        resources: Resources,
        *,
        known: Callable[[BlobId], bool],
        level: int,
    ) -> None:
        self._workspace = workspace
        self.reader = reader
        reader.prepare(resources)
        self._resources = resources
        self._profile = resources.profile
        self._planner = Planner(reader, known, level, resources.profile)
        self._file: NewFile | None = None
        self._heads: list[tuple[int, p.EntryHead]] = []
        self._added: set[BlobId] = set()
        self.published_bytes = 0

    def add(self, blobs: Iterable[NewBlob]) -> Iterator[AddedBlob]:
        """Store blobs, yielding a result for each, in order.

        Raises:
            IntegrityError: a delta base is damaged, or a source became shorter while it was read.
            ConflictError: `source-changed` if a source gives other bytes than those that were hashed.
            StorageError: the disk is full or failed.
        """
        with Pool(self._resources) as pool:
            spans = self._spans(pool.map(self._planner.plan, blobs, size=_raw_bytes))
            open_entry: _OpenEntry | None = None
            for encoded in pool.map(self._encode, spans, size=_span_bytes):
                open_entry = open_entry or self._open(encoded.plan)
                with self._profile.stage("append", sum(map(len, encoded.payloads))):
                    open_entry.append(encoded)
                if encoded.last:
                    yield self._close(open_entry)
                    open_entry = None

    def finish(self) -> PackId | None:
        """Publish the pack and its index; None if nothing new was added."""
        if self._file is None:
            return None
        with self._profile.stage("publish", self._file.size):
            self._file.append(p.encode_trailer(len(self._heads), self._file.size + p.TRAILER_BYTES))
            pack = PackId(self._file.hash())
            self._file.publish(pack_key(pack))
            index = self._workspace.create("idx")
            index.append(encode_index(make_records(self._heads), self._file.size))
            self.published_bytes = self._file.size + index.size
            index.publish(index_key(pack))
        return pack

    def _spans(self, plans: Iterable[BlobPlan]) -> Iterator[_PlannedSpan]:
        for plan in plans:
            if plan.blob in self._added:
                plan = plan.as_stored()
            self._added.add(plan.blob)
            size = plan.raw_bytes if plan.reads_bytes else 0
            step = max(SPAN_BYTES, plan.chunk_bytes)
            yield from (_PlannedSpan(plan, at, min(step, size - at)) for at in range(0, size, step))
            if not size:
                yield _PlannedSpan(plan, 0, 0)

    def _encode(self, span: _PlannedSpan) -> _EncodedSpan:
        """Encode the chunks of a span, and measure how it differs; on a worker thread."""
        plan = span.plan
        payloads: list[bytes] = []
        changed, squares = 0, 0.0
        for at in range(span.start, span.start + span.n_bytes, plan.chunk_bytes):
            size = min(plan.chunk_bytes, span.start + span.n_bytes - at)
            with self._profile.stage("read", size):
                target = plan.read(at, size)
            with self._profile.stage("checksum", size):
                plan.check(at, target)
            if plan.compare is not None:
                part = self._measure(plan.compare, codec_dtype(plan.domain), at, target)
                changed, squares = changed + part.changed, squares + part.squares
            if plan.is_new:
                payloads.append(self._payload(plan, at, target))
        difference = SpanDifference(changed, squares) if plan.compare is not None else None
        last = span.start + span.n_bytes >= (plan.raw_bytes if plan.reads_bytes else 0)
        return _EncodedSpan(plan, payloads, difference, last)

    def _measure(self, compare: BlobId, dtype: str, at: int, target: Bytes) -> SpanDifference:
        with self._profile.stage("decode base", len(target)):
            base = self.reader.padded(compare, at, len(target))
        with self._profile.stage("compare", len(target)):
            return measure_span(dtype, target, base)

    def _payload(self, plan: BlobPlan, at: int, target: Bytes) -> bytes:
        base = None
        if plan.base is not None:
            with self._profile.stage("decode base", len(target) if plan.base != plan.compare else 0):
                base = self.reader.padded(plan.base, at, len(target))
        with self._profile.stage("encode", len(target)):
            return plan.encode(target, base)

    def _open(self, plan: BlobPlan) -> _OpenEntry:
        if plan.is_new and self._file is None:
            self._file = self._workspace.create("pack")
            self._file.append(p.PACK_HEADER)
        return _OpenEntry(plan, self._file if plan.is_new else None)

    def _close(self, entry: _OpenEntry) -> AddedBlob:
        plan = entry.plan
        stored = 0
        if entry.file is not None:
            head = p.decode_head(entry.seal())
            self._heads.append((entry.offset, head))
            stored = head.entry_bytes
        return AddedBlob(plan.tag, plan.blob, plan.raw_bytes, stored, entry.difference(), plan.nonfinite)


class _OpenEntry:
    """An entry whose payloads are being appended. Its prefix is reserved first and patched last."""

    def __init__(self, plan: BlobPlan, file: NewFile | None) -> None:
        self.plan = plan
        self.file = file
        self._chunks = np.zeros(p.chunk_count(plan.raw_bytes, plan.chunk_log2), p.CHUNK)
        self._chunks["xxh3"] = plan.hashes
        self._n = 0
        self._differences: list[SpanDifference] = []
        if file is not None:
            self.offset = file.size
            file.append(self._prefix())

    def append(self, encoded: _EncodedSpan) -> None:
        for payload in encoded.payloads:
            self._chunks["length"][self._n] = len(payload)
            self._n += 1
            if payload and self.file is not None:
                self.file.append(payload)
        if encoded.difference is not None:
            self._differences.append(encoded.difference)

    def seal(self) -> bytes:
        assert self.file is not None
        prefix = self._prefix()
        self.file.patch(self.offset, prefix)
        return prefix

    def difference(self) -> TensorStats | None:
        if self.plan.known_difference is not None or self.plan.compare is None:
            return self.plan.known_difference
        return add_up(self.plan.domain, self._differences)

    def _prefix(self) -> bytes:
        plan = self.plan
        return p.encode_prefix(
            blob=plan.blob,
            base=plan.base,
            codec=plan.codec,
            chunk_log2=plan.chunk_log2,
            raw_bytes=plan.raw_bytes,
            domain=plan.domain,
            side=plan.side,
            chunks=self._chunks,
        )
