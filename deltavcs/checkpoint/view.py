"""A checkpoint as it will be written: every tensor either a stored blob or a derivation.

One shape for what a commit holds, for an expression that was never committed, and for a cast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from deltavcs.errors import ErrorKind, IntegrityError, InvalidInputError
from deltavcs.objects.derivation import Derivation, Operand
from deltavcs.objects.domain import tensor_domain
from deltavcs.objects.model import FileEntry, Manifest
from deltavcs.objects.reader import BlobReader
from deltavcs.objects.store import ObjectStore
from deltavcs.oid import BlobId
from deltavcs.tensors.dtypes import dtype_of, n_bytes, n_elements
from deltavcs.tensors.safetensors import Header, build_header, parse_header

_MAX_HEADER = 100_000_008


class Computed(Protocol):
    """A tensor computed by something that is no derived operator, such as a folded adapter."""

    def read_into(self, start: int, out: memoryview, dtype: str) -> None:
        """Fill `out` with the bytes from `start` on, rounded once to `dtype`. Thread-safe."""
        ...


@dataclass(frozen=True, slots=True)
class Content:
    """A tensor to be written. Exactly one of `blob`, `derivation` and `computed` is set."""

    dtype: str
    shape: tuple[int, ...]
    blob: BlobId | None = None
    derivation: Derivation | None = None
    computed: Computed | None = None

    @property
    def domain(self) -> str:
        """Domain of its bytes (spec §2)."""
        return tensor_domain(self.dtype, self.shape)

    @property
    def size(self) -> int:
        """Bytes of the packed tensor."""
        return n_bytes(self.dtype, self.shape)

    def read_into(self, blobs: BlobReader, start: int, out: memoryview) -> None:
        """Fill `out` with the tensor's bytes from `start` on. Raises as `BlobReader.read_into` does."""
        if self.blob is not None:
            check_blob(blobs, self.blob, self.domain, self.size)
            blobs.read_into(self.blob, start, out)
        elif self.derivation is not None:
            blobs.derive(self.derivation, self.domain, start, out)
        elif self.computed is not None:
            self.computed.read_into(start, out, self.dtype)


def check_blob(blobs: BlobReader, blob: BlobId, domain: str, size: int) -> None:
    """Prove that a blob is what a manifest says it is.

    Raises:
        IntegrityError: `corrupt` if it is of another dtype, shape or size.
    """
    prefix = blobs.stored(blob).prefix
    if (prefix.domain, prefix.head.raw_bytes) != (domain, size):
        raise IntegrityError(
            f"blob {blob[:12]} is a {prefix.domain} of {prefix.head.raw_bytes} bytes; the manifest says"
            f" {domain} of {size} bytes",
            kind=ErrorKind.CORRUPT,
        )


@dataclass(frozen=True, slots=True)
class ViewFile:
    """A file to be written.

    Attributes:
        blob: its bytes, or for safetensors its header; None if `data` has them.
        data: bytes that are in no blob yet.
        keys: tensors after the header; None for a plain file.
    """

    path: str
    size: int
    blob: BlobId | None
    data: bytes | None
    keys: tuple[str, ...] | None
    executable: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """Files and tensors of a checkpoint to be written, loaded or stored."""

    files: tuple[ViewFile, ...]
    tensors: Mapping[str, Content]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(f.size for f in self.files)

    @property
    def primary(self) -> dict[str, Content]:
        """The checkpoint's own tensors."""
        return {k: t for k, t in self.tensors.items() if "::" not in k}


def view_of(manifest: Manifest) -> View:
    """The view of what is stored."""
    return View(
        tuple(ViewFile(f.path, f.size, f.blob, None, f.tensors, f.executable) for f in manifest.files),
        {k: Content(t.dtype, t.shape, blob=t.blob) for k, t in manifest.tensors.items()},
    )


def cast(objects: ObjectStore, view: View, dtype: str) -> View:
    """The view with its floating-point tensors rounded once to `dtype`; others stay.

    Raises:
        InvalidInputError: `bad-argument` if `dtype` has no arithmetic, or an operand cannot be read.
    """
    if not dtype_of(dtype).arithmetic:
        raise InvalidInputError(f"cannot convert to {dtype}", kind=ErrorKind.BAD_ARGUMENT)
    tensors = {key: _cast_one(content, dtype) for key, content in view.tensors.items()}
    return with_tensors(objects, view, tensors)


def _cast_one(content: Content, dtype: str) -> Content:
    if content.dtype == dtype or not dtype_of(content.dtype).arithmetic:
        return content
    if content.blob is None:
        # One rounding only: what is computed in float64 goes straight to the new dtype.
        return replace(content, dtype=dtype)
    operand = Operand(content.blob, n_elements(content.shape))
    return Content(dtype, content.shape, derivation=Derivation("linear", {"program": [0]}, (operand,)))


def with_tensors(
    objects: ObjectStore,
    view: View,
    tensors: Mapping[str, Content],
    *,
    beside: Mapping[str, str] | None = None,
) -> View:
    """The view with other tensors; headers are rebuilt only where names, dtypes or shapes changed.

    Args:
        beside: new key → the key of an old tensor, after which it is written into the same file.
    """
    after: dict[str, list[str]] = {}
    for new, old in (beside or {}).items():
        after.setdefault(old, []).append(new)
    files = tuple(f if f.keys is None else _reheader(objects, f, view, tensors, after) for f in view.files)
    return View(files, tensors)


def read_header(objects: ObjectStore, file: ViewFile | FileEntry, n_tensor_bytes: int) -> Header:
    """Parse the stored header of a safetensors file."""
    assert file.blob is not None
    data = objects.blobs.read(file.blob, max_bytes=_MAX_HEADER)
    return parse_header(data[8:], len(data) + n_tensor_bytes)


def _reheader(
    objects: ObjectStore,
    file: ViewFile,
    view: View,
    tensors: Mapping[str, Content],
    beside: Mapping[str, Sequence[str]],
) -> ViewFile:
    keys = tuple(new for k in file.keys or () if k in tensors for new in (k, *beside.get(k, ())))
    before = [view.tensors[k] for k in file.keys or ()]
    after = [tensors[k] for k in keys]
    if keys == file.keys and [(c.dtype, c.shape) for c in before] == [(c.dtype, c.shape) for c in after]:
        return file
    if file.data is not None:
        metadata: Mapping[str, str] = parse_header(file.data[8:], file.size).metadata
    else:
        metadata = read_header(objects, file, sum(c.size for c in before)).metadata
    names = [k.partition("::")[2] or k for k in keys]
    specs = [(n, c.dtype, c.shape) for n, c in zip(names, after, strict=True)]
    header, size = build_header(specs, metadata)
    return replace(file, size=size, blob=None, data=header, keys=keys)


def replace_files(view: View, others: Mapping[str, ViewFile], *, drop: Any = ()) -> View:
    """The view with some plain files replaced, added or dropped."""
    kept = [f for f in view.files if f.path not in others and f.path not in set(drop)]
    return View(tuple(sorted([*kept, *others.values()], key=lambda f: f.path)), view.tensors)


def data_file(path: str, data: bytes) -> ViewFile:
    """A plain file whose bytes are at hand."""
    return ViewFile(path, len(data), None, data, None)
