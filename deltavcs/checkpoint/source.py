"""Reading a checkpoint from disk: a directory in Hugging Face layout or one safetensors file."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deltavcs.advice import Advice
from deltavcs.checkpoint.layout import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    MARKER,
    MAX_JSON_BYTES,
    SKIPPED_FOLDERS,
    find_index,
    is_draft,
    is_safetensors,
    missing_shards,
    primary_files,
    tensor_key,
)
from deltavcs.errors import ConflictError, ErrorKind, FormatError, InvalidInputError, NotFoundError
from deltavcs.objects.incoming import FileRange
from deltavcs.objects.paths import check_path, check_paths
from deltavcs.storage import FileReader, translate_os_errors
from deltavcs.tensors.safetensors import header_length, parse_header

Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class SourceTensor:
    """One tensor on disk."""

    dtype: str
    shape: tuple[int, ...]
    data: FileRange


@dataclass(frozen=True, slots=True)
class LazyFile:
    """A file that is opened for each read: a directory may hold more files than may be open."""

    path: Path
    size: int

    def read_into(self, start: int, out: memoryview) -> None:
        """Fill `out`. Raises IntegrityError if the file has become shorter."""
        with FileReader(self.path) as file:
            file.read_into(start, out)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file on disk; `header` and `keys` only for safetensors."""

    path: str
    location: Path
    size: int
    executable: bool
    stamp: Stamp
    header: bytes | None = None
    keys: tuple[str, ...] | None = None


@dataclass(slots=True)
class SourceCheckpoint:
    """A checkpoint on disk, open for reading.

    Attributes:
        files: sorted by path.
        tensors: by manifest key.
        skipped: folders that were left out.
    """

    root: Path
    files: list[SourceFile] = field(default_factory=list)
    tensors: dict[str, SourceTensor] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    @property
    def is_adapter(self) -> bool:
        """True for a PEFT adapter."""
        paths = {f.path for f in self.files}
        return ADAPTER_CONFIG in paths and ADAPTER_WEIGHTS in paths

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(f.size for f in self.files)

    def read_small(self, path: str) -> bytes | None:
        """Content of a small file such as config.json; None if it is not there.

        Raises:
            FormatError: `limit-exceeded` over 64 MiB.
        """
        found = next((f for f in self.files if f.path == path and f.header is None), None)
        if found is None:
            return None
        if found.size > MAX_JSON_BYTES:
            raise FormatError(f"{path} has {found.size} bytes", kind=ErrorKind.LIMIT_EXCEEDED)
        with FileReader(found.location) as file:
            return bytes(file.read(0, found.size))

    def check_unchanged(self) -> None:
        """Prove that no file was written to since it was opened.

        Raises:
            ConflictError: `source-changed`, naming the file.
        """
        for file in self.files:
            try:
                now = _stamp(file.location)
            except OSError:
                now = None
            if now != file.stamp:
                raise ConflictError(
                    f"{file.location} changed while it was read",
                    kind=ErrorKind.SOURCE_CHANGED,
                )


@contextlib.contextmanager
def open_checkpoint(source: Path) -> Iterator[SourceCheckpoint]:
    """Open a directory or one `.safetensors` file.

    Raises:
        NotFoundError: `unknown-source`.
        FormatError: a malformed or lying header, an unsafe path.
        InvalidInputError: `bad-checkpoint` if a tensor stands there twice or a shard is missing.
    """
    if not source.exists():
        raise NotFoundError(f"{source} does not exist", kind=ErrorKind.UNKNOWN_SOURCE)
    with contextlib.ExitStack() as stack:
        checkpoint = SourceCheckpoint(source)
        if source.is_dir():
            listing = dict(_walk(source, "", checkpoint.skipped, {os.path.realpath(source)}))
        elif source.is_file():
            # One file of weights is a whole checkpoint.
            listing = {check_path(source.name): source}
        else:
            raise InvalidInputError(
                f"{source} is neither a directory nor a regular file", kind=ErrorKind.BAD_CHECKPOINT
            )
        check_paths(listing)
        index_path = find_index(listing)
        index = _read_index(listing[index_path]) if index_path else None
        missing = missing_shards(listing, index)
        if missing:
            raise InvalidInputError(
                f"{source}: {index_path} names {missing[0]}, which is not there",
                kind=ErrorKind.BAD_CHECKPOINT,
                advice=Advice.FINISH_DOWNLOAD,
            )
        primary = primary_files(listing, index)
        for path in sorted(listing):
            _add_file(checkpoint, stack, path, listing[path], primary=path in primary)
        yield checkpoint


def _walk(folder: Path, prefix: str, skipped: list[str], seen: set[str]) -> Iterator[tuple[str, Path]]:
    with translate_os_errors(f"cannot read {folder}"):
        entries = sorted(os.scandir(folder), key=lambda e: e.name)
    for entry in entries:
        path = prefix + entry.name
        location = Path(entry.path)
        if path == MARKER:
            continue
        kind = _kind(entry)
        if kind == "directory":
            real = os.path.realpath(location)
            if path in SKIPPED_FOLDERS or entry.name in SKIPPED_FOLDERS or is_draft(path):
                skipped.append(path)
            elif real in seen:
                raise InvalidInputError(
                    f"{location} is a link into its own folder", kind=ErrorKind.BAD_CHECKPOINT
                )
            else:
                yield from _walk(location, path + "/", skipped, seen | {real})
        elif kind == "file":
            yield check_path(path), location
        else:
            raise InvalidInputError(
                f"{location} {kind}", kind=ErrorKind.BAD_CHECKPOINT, advice=Advice.REMOVE_FILE
            )


def _kind(entry: os.DirEntry[str]) -> str:
    """`directory`, `file`, or what is wrong with it. Links are followed."""
    try:
        if entry.is_dir():
            return "directory"
        if entry.is_file():
            return "file"
    except OSError as exc:  # a link that leads to itself, or through a folder that may not be read
        return f"cannot be followed: {exc.strerror}"
    return "is a broken link" if entry.is_symlink() else "is not a regular file"


def _read_index(location: Path) -> bytes:
    with FileReader(location) as file:
        if file.size > MAX_JSON_BYTES:
            raise FormatError(f"{location} has {file.size} bytes", kind=ErrorKind.LIMIT_EXCEEDED)
        return bytes(file.read(0, file.size))


def _stamp(location: Path) -> Stamp:
    found = location.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


def _add_file(
    checkpoint: SourceCheckpoint, stack: contextlib.ExitStack, path: str, location: Path, *, primary: bool
) -> None:
    with translate_os_errors(f"cannot read {location}"):
        stamp = _stamp(location)
        executable = bool(location.stat().st_mode & stat.S_IXUSR)
    if not is_safetensors(path):
        checkpoint.files.append(SourceFile(path, location, stamp[0], executable, stamp))
        return
    file = stack.enter_context(FileReader(location))
    try:
        header_bytes, spans = _read_header(file)
    except (FormatError, InvalidInputError) as exc:
        raise exc.within(str(location)) from exc.__cause__
    keys = []
    for name, dtype, shape, data in spans:
        key = tensor_key(path, name, primary=primary)
        if primary and "::" in name:
            raise InvalidInputError(
                f"{location}: tensor name {name!r} holds '::'", kind=ErrorKind.BAD_CHECKPOINT
            )
        if key in checkpoint.tensors:
            raise InvalidInputError(
                f"{location}: tensor {name!r} is in another shard as well",
                kind=ErrorKind.BAD_CHECKPOINT,
                advice=Advice.ONE_SHARD,
            )
        checkpoint.tensors[key] = SourceTensor(dtype, shape, data)
        keys.append(key)
    checkpoint.files.append(
        SourceFile(path, location, stamp[0], executable, stamp, header_bytes, tuple(keys))
    )


def _read_header(file: FileReader) -> tuple[bytes, list[tuple[str, str, tuple[int, ...], FileRange]]]:
    length = header_length(file.read(0, min(8, file.size)), file.size)
    data = bytes(file.read(0, 8 + length))
    header = parse_header(data[8:], file.size)
    return data, [
        (s.name, s.dtype, s.shape, FileRange(file, header.n_bytes + s.begin, s.end - s.begin))
        for s in header.spans
    ]
