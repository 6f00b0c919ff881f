"""Planning a blob: its id, whether it is new, and the representation that stores it smallest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from deltavcs import codec
from deltavcs.errors import ConflictError, ErrorKind, FormatError, IntegrityError, InternalError
from deltavcs.objects import pack as p
from deltavcs.objects.derivation import Derivation
from deltavcs.objects.difference import add_up, measure_span
from deltavcs.objects.domain import codec_dtype, domain_bytes, parse_domain
from deltavcs.objects.incoming import ByteSource, NewBlob
from deltavcs.objects.model import TensorStats
from deltavcs.objects.reader import BlobReader
from deltavcs.oid import BlobId, start_hash
from deltavcs.resources import Profile, Scratch

DEFAULT_CHUNK_LOG2 = 20
DERIVED_CHUNK_LOG2 = 22
MAX_WRITTEN_DEPTH = 8
# A base other than the first must store clearly less to be worth a longer chain.
_WORTH_IT = 0.9
_WHOLE_SAMPLE_BYTES = 4 << 20
_SAMPLE_BYTES = 256 << 10
_SAMPLES = 8
_TINY_BYTES = 64

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class BlobPlan:
    """What the writer needs to store one blob.

    Attributes:
        encoder: None for a derivation or a known blob.
        compare: blob to measure the difference from while encoding; None if there is none, or if
            `known_difference` has it already.
        hashes: XXH3-64 of the chunks as they were when the id was computed. What is encoded later must
            be the same bytes, whatever happens to the file meanwhile.
    """

    tag: Any
    blob: BlobId
    domain: str
    raw_bytes: int
    source: ByteSource | None
    derivation: Derivation | None
    encoder: codec.Encoder | None
    base: BlobId | None
    compare: BlobId | None
    known_difference: TensorStats | None
    is_new: bool
    chunk_log2: int
    hashes: tuple[int, ...] = ()

    @property
    def chunk_bytes(self) -> int:
        """Raw bytes per chunk."""
        return 1 << self.chunk_log2

    @property
    def codec(self) -> int:
        """Codec number of the entry."""
        if self.derivation is not None:
            return p.DERIVED
        return int(self.encoder.codec) if self.encoder is not None else int(codec.CodecId.RAW)

    @property
    def side(self) -> bytes:
        """Side bytes of the entry."""
        if self.derivation is not None:
            return self.derivation.encode()
        return self.encoder.side if self.encoder is not None else b""

    @property
    def reads_bytes(self) -> bool:
        """False if there is nothing left to read."""
        return self.derivation is None and (self.is_new or self.compare is not None)

    def as_stored(self) -> BlobPlan:
        """The plan if the blob turned out to be stored already."""
        return replace(self, is_new=False)

    def read(self, start: int, n_bytes: int) -> Bytes:
        """Raw bytes of the blob from its source."""
        out = np.empty(n_bytes, np.uint8)
        if self.source is None:
            raise InternalError("a blob has no source", kind=ErrorKind.BUG)
        self.source.read_into(start, out.data)
        return out

    def check(self, start: int, target: Bytes) -> None:
        """Prove that a chunk read again has the bytes that the id was computed from.

        Raises:
            ConflictError: `source-changed`.
        """
        if xxhash.xxh3_64_intdigest(target.data) != self.hashes[start >> self.chunk_log2]:
            raise ConflictError(
                "a source file changed while it was read",
                kind=ErrorKind.SOURCE_CHANGED,
            )

    def encode(self, target: Bytes, base: Bytes | None) -> bytes:
        """The payload of a chunk."""
        if self.encoder is None:
            raise InternalError("a new blob has no encoder", kind=ErrorKind.BUG)
        return self.encoder.encode(target, base)


class Planner:
    """Makes plans; on many threads at once."""

    def __init__(
        self, reader: BlobReader, known: Callable[[BlobId], bool], level: int, profile: Profile
    ) -> None:
        self._reader = reader
        self._profile = profile
        self._known = known
        self._level = level
        self._scratch = Scratch()

    def plan(self, new: NewBlob) -> BlobPlan:
        """Hash a blob and choose how to store it."""
        size = new.source.size if new.source is not None else domain_bytes(new.domain)
        assert size is not None
        log2 = DEFAULT_CHUNK_LOG2 if new.derivation is None else DERIVED_CHUNK_LOG2
        draft = BlobPlan(
            tag=new.tag,
            blob=BlobId(""),
            domain=new.domain,
            raw_bytes=size,
            source=new.source,
            derivation=new.derivation,
            encoder=None,
            base=None,
            compare=new.compare,
            known_difference=None,
            is_new=True,
            chunk_log2=log2,
        )
        with self._profile.stage("hash" if new.derivation is None else "compute", size):
            draft = self._hash(draft) if new.derivation is None else self._compute(draft)
        draft = replace(draft, is_new=not self._is_stored(draft))
        if draft.blob == new.compare:
            draft = replace(draft, compare=None, known_difference=add_up(new.domain, ()))
        if not draft.is_new or new.derivation is not None:
            return draft
        with self._profile.stage("choose codec", size):
            encoder, base = self._choose(draft, new.bases)
        return replace(draft, encoder=encoder, base=base)

    def _is_stored(self, draft: BlobPlan) -> bool:
        """True if the blob is in the repository, and can be read: a damaged copy does not count."""
        if not self._known(draft.blob) or draft.derivation is not None:
            return self._known(draft.blob)
        with self._profile.stage("verify", draft.raw_bytes):
            try:
                for at in range(0, draft.raw_bytes, draft.chunk_bytes):
                    out = self._scratch.take(min(draft.chunk_bytes, draft.raw_bytes - at))
                    self._reader.read_into(draft.blob, at, out)
            except (IntegrityError, FormatError):
                return False
        return True

    def _hash(self, draft: BlobPlan) -> BlobPlan:
        assert draft.source is not None
        hasher = start_hash(draft.domain)
        hashes = []
        for at in range(0, draft.raw_bytes, draft.chunk_bytes):
            data = self._scratch.take(min(draft.chunk_bytes, draft.raw_bytes - at))
            draft.source.read_into(at, data)
            hasher.update(data)
            hashes.append(xxhash.xxh3_64_intdigest(data))
        return replace(draft, blob=BlobId(hasher.hexdigest()), hashes=tuple(hashes))

    def _compute(self, draft: BlobPlan) -> BlobPlan:
        """Everything about a derivation in one pass: its id, its chunks' checksums, its difference."""
        assert draft.derivation is not None
        dtype = codec_dtype(draft.domain)
        hasher = start_hash(draft.domain)
        hashes, spans = [], []
        for at in range(0, draft.raw_bytes, draft.chunk_bytes):
            out = np.empty(min(draft.chunk_bytes, draft.raw_bytes - at), np.uint8)
            self._reader.derive(draft.derivation, draft.domain, at, out.data)
            hasher.update(out.data)
            hashes.append(xxhash.xxh3_64_intdigest(out.data))
            if draft.compare is not None:
                spans.append(measure_span(dtype, out, self._reader.padded(draft.compare, at, len(out))))
        known = None
        if draft.compare is not None:
            known = add_up(draft.domain, spans)
        return replace(
            draft, blob=BlobId(hasher.hexdigest()), hashes=tuple(hashes), compare=None, known_difference=known
        )

    def _choose(self, draft: BlobPlan, bases: tuple[BlobId, ...]) -> tuple[codec.Encoder, BlobId | None]:
        """The encoder and delta base that store the samples smallest."""
        ranges = _sample_ranges(draft.raw_bytes)
        targets = [draft.read(at, size) for at, size in ranges]
        usable = [b for b in dict.fromkeys(bases) if self._usable(draft, b)]
        if draft.raw_bytes <= _TINY_BYTES or not usable:
            samples = [(t, None) for t in targets]
            return codec.plan(codec_dtype(draft.domain), samples, level=self._level), None
        best: tuple[float, codec.Encoder, BlobId | None] | None = None
        for base in usable:
            pairs = [
                (t, self._reader.padded(base, at, size))
                for t, (at, size) in zip(targets, ranges, strict=True)
            ]
            encoder = codec.plan(codec_dtype(draft.domain), pairs, level=self._level)
            used = base if codec.needs_base(encoder.codec) else None
            if len(usable) == 1:
                return encoder, used
            cost = _trial_bytes(encoder, pairs[:2])
            if best is None or cost < _WORTH_IT * best[0]:
                best = cost, encoder, used
        assert best is not None
        return best[1], best[2]

    def _usable(self, draft: BlobPlan, base: BlobId) -> bool:
        """A base must have the dtype, common rows, and a chain that is not too long."""
        stored = self._reader.stored(base)
        ours, theirs = parse_domain(draft.domain), parse_domain(stored.prefix.domain)
        if ours is None or theirs is None:
            return ours == theirs and base != draft.blob
        rows = ours[1][1:] == theirs[1][1:] and len(ours[1]) == len(theirs[1])
        return ours[0] == theirs[0] and rows and stored.depth < MAX_WRITTEN_DEPTH


def _sample_ranges(raw_bytes: int) -> list[tuple[int, int]]:
    """All of a small blob, else evenly spread ranges that each begin a chunk."""
    if raw_bytes <= _WHOLE_SAMPLE_BYTES:
        step = 1 << DEFAULT_CHUNK_LOG2
        return [(at, min(step, raw_bytes - at)) for at in range(0, raw_bytes, step)]
    last = (raw_bytes - _SAMPLE_BYTES) >> DEFAULT_CHUNK_LOG2
    chunks = sorted({round(i * last / (_SAMPLES - 1)) for i in range(_SAMPLES)})
    return [(c << DEFAULT_CHUNK_LOG2, _SAMPLE_BYTES) for c in chunks]


def _trial_bytes(encoder: codec.Encoder, pairs: list[tuple[Bytes, Bytes]]) -> float:
    return float(len(encoder.side) + sum(len(encoder.encode(t, b)) for t, b in pairs))
