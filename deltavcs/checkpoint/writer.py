"""Writing a view to disk: spans of tensors in parallel, straight to their place in the file."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deltavcs.checkpoint.view import Content, View, ViewFile, check_blob
from deltavcs.errors import ErrorKind, IntegrityError
from deltavcs.objects.domain import FILE_DOMAIN
from deltavcs.objects.paths import check_path, check_paths
from deltavcs.objects.store import ObjectStore
from deltavcs.oid import BlobId, start_hash
from deltavcs.pool import Pool
from deltavcs.resources import SPAN_BYTES, Profile, Resources, Scratch
from deltavcs.storage.file_calls import os_error, reserve, translate_os_errors, write_all

# Decoded and written while it is in the processor's cache. Tensors begin at a chunk, so pieces are chunks.
_PIECE_BYTES = 1 << 20
# Below that, finding room takes as long as it saves.
_RESERVED_BYTES = 1 << 20


def write_draft(
    objects: ObjectStore, view: View, draft: Path, named: Path, *, resources: Resources
) -> Mapping[str, str]:
    """Write the files of a view into a folder that nobody else uses yet.

    Args:
        draft: an empty folder.
        named: where they will be; for messages.

    Returns:
        Ids of tensors that have no blob, by key: what they were computed to.

    Raises:
        IntegrityError: stored data is damaged.
        StorageError: the disk is full or failed.
    """
    check_paths([check_path(f.path) for f in view.files])
    return _write_files(objects, view, draft, named, resources)


def sync_files(draft: Path) -> None:
    """Make the bytes of all files in a folder durable, before any of them replaces another."""
    for path in (x for x in draft.rglob("*") if not x.is_dir()):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class OutputFile:
    """An output file, open from its first byte to its last: a checkpoint may have thousands. Thread-safe."""

    def __init__(self, path: Path, name: Path, mode: int, n_bytes: int) -> None:
        """Args:
        path: where it is written first.
        name: where it will be; for messages.
        """
        self.path = path
        self.name = name
        self._mode = mode
        self._size = n_bytes
        self._left = n_bytes
        self._fd = -1
        self._lock = threading.Lock()
        if not n_bytes:
            self._open()
            self.close()

    def write(self, data: bytes | memoryview, at: int) -> None:
        """Write a part of the file."""
        write_all(self.fileno(), data, at)
        self.wrote(len(data))

    def fileno(self) -> int:
        """The open file, for whoever then says what it `wrote`."""
        with self._lock:
            return self._open()

    def wrote(self, n_bytes: int) -> None:
        """Count bytes of the file as written; after the last one it is closed."""
        with self._lock:
            self._left -= n_bytes
            if not self._left:
                self.close()

    def _open(self) -> int:
        if self._fd < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._fd = os.open(self.path, flags, self._mode)
            if self._size >= _RESERVED_BYTES:
                reserve(self._fd, self._size)
        return self._fd

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._fd >= 0:
            # Closed even if that fails, and then the number may be another file's.
            fd, self._fd = self._fd, -1
            os.close(fd)


@dataclass(frozen=True, slots=True)
class _FileSpan:
    """A range of one blob and its place in a file."""

    target: OutputFile
    key: str | None
    content: Content | None
    blob: BlobId | None
    start: int
    n_bytes: int
    at: int


def _write_files(
    objects: ObjectStore, view: View, draft: Path, out: Path, resources: Resources
) -> dict[str, str]:
    objects.blobs.prepare(resources)
    done = 0
    proof = _DerivedProof()
    targets: list[OutputFile] = []
    try:
        with Pool(resources) as pool:
            writer = _SpanWriter(objects, resources.profile)
            for span, data in pool.map(writer.write, _spans(objects, view, draft, out, targets), size=_size):
                done += span.n_bytes
                resources.progress("writing", done, view.size)
                if data is not None and span.content is not None and span.key is not None:
                    with resources.profile.stage("prove", span.n_bytes):
                        proof.update(span.key, span.content, span.start, data)
    finally:
        for target in targets:
            target.close()
    empty = {k: c for k, c in view.tensors.items() if c.blob is None and not c.size}
    return proof.learned | {k: start_hash(c.domain).hexdigest() for k, c in empty.items()}


class _DerivedProof:
    """Hashes computed tensors as their spans arrive in order: a derived blob must come out as its id.

    Attributes:
        learned: ids of those that have no blob, by key.
    """

    def __init__(self) -> None:
        self._hasher = start_hash("")
        self.learned: dict[str, str] = {}

    def update(self, key: str, content: Content, start: int, data: npt.NDArray[np.uint8]) -> None:
        """Take the next span of `content`. Raises IntegrityError if the tensor is complete and wrong."""
        if start == 0:
            self._hasher = start_hash(content.domain)
        self._hasher.update(data.data)
        if start + len(data) < content.size:
            return
        if content.blob is None:
            self.learned[key] = self._hasher.hexdigest()
        elif self._hasher.hexdigest() != content.blob:
            raise _wrong(content)


def _wrong(content: Content) -> IntegrityError:
    return IntegrityError(
        f"derived blob {(content.blob or '')[:12]} does not compute to its id",
        kind=ErrorKind.HASH_MISMATCH,
    )


def _spans(
    objects: ObjectStore, view: View, draft: Path, out: Path, targets: list[OutputFile]
) -> Iterator[_FileSpan]:
    for file in view.files:
        if file.blob is not None:
            n_tensor_bytes = sum(view.tensors[k].size for k in file.keys or ())
            check_blob(objects.blobs, file.blob, FILE_DOMAIN, file.size - n_tensor_bytes)
        path, name = draft / file.path, out / file.path
        with translate_os_errors(f"cannot create {name}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            target = OutputFile(path, name, 0o777 if file.executable else 0o666, file.size)
        targets.append(target)
        if file.data:
            with translate_os_errors(f"cannot write {name}"):
                target.write(file.data, 0)
        for key, blob, start, size, at in _pieces(view, file):
            yield _FileSpan(target, key, None if key is None else view.tensors[key], blob, start, size, at)


def _size(span: _FileSpan) -> int:
    return span.n_bytes


_PlacedSpan = tuple[str | None, BlobId | None, int, int, int]


def _pieces(view: View, file: ViewFile) -> Iterator[_PlacedSpan]:
    """Key of the tensor, blob, start in the blob, bytes, and place in the file of every span."""
    head = file.size - sum(view.tensors[k].size for k in file.keys or ())
    if file.data is None:
        for start in range(0, head, SPAN_BYTES):
            yield None, file.blob, start, min(SPAN_BYTES, head - start), start
    at = head
    for key in file.keys or ():
        content = view.tensors[key]
        for start in range(0, content.size, SPAN_BYTES):
            yield key, content.blob, start, min(SPAN_BYTES, content.size - start), at + start
        at += content.size


class _SpanWriter:
    """Decodes or computes spans and writes them; on worker threads."""

    def __init__(self, objects: ObjectStore, profile: Profile) -> None:
        self._blobs = objects.blobs
        self._profile = profile
        self._scratch = Scratch()

    def write(self, span: _FileSpan) -> tuple[_FileSpan, npt.NDArray[np.uint8] | None]:
        """Write a span. Gives back bytes that need proof."""
        if span.content is not None and self._is_computed(span.content):
            data = np.empty(span.n_bytes, np.uint8)
            self._write(span, 0, data.data)
            return span, data
        done = 0
        while done < span.n_bytes:
            done += self._copy(span, done) or self._write_piece(span, done)
        return span, None

    def _is_computed(self, content: Content) -> bool:
        return content.blob is None or self._blobs.stored(content.blob).derivation is not None

    def _copy(self, span: _FileSpan, at: int) -> int:
        """Write what can go straight from the pack to the file; bytes done, 0 if that is nothing."""
        if span.blob is None:
            return 0
        if span.content is not None:
            check_blob(self._blobs, span.blob, span.content.domain, span.content.size)
        with translate_os_errors(f"cannot write {span.target.name}"):
            to = span.target.fileno()
        rest = span.n_bytes - at
        done = self._blobs.copy(span.blob, span.start + at, rest, to, span.at + at, self._profile)
        with translate_os_errors(f"cannot write {span.target.name}"):
            span.target.wrote(done)
        return done

    def _write_piece(self, span: _FileSpan, at: int) -> int:
        size = min(_PIECE_BYTES, span.n_bytes - at)
        self._write(span, at, self._scratch.take(size))
        return size

    def _write(self, span: _FileSpan, at: int, data: memoryview) -> None:
        with self._profile.stage("decode", len(data)):
            if span.content is not None:
                span.content.read_into(self._blobs, span.start + at, data)
            elif span.blob is not None:
                self._blobs.read_into(span.blob, span.start + at, data)
        try:
            with self._profile.stage("write", len(data)):
                span.target.write(data, span.at + at)
        except OSError as exc:
            raise os_error(f"cannot write {span.target.name}", exc) from exc
