"""Computed checkpoints as operands: manifests whose blobs are computed when they are read.

What is stored must not name such blobs: `stored_view` turns what was made of them back into computed tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from deltavcs.checkpoint.view import Computed, Content, View, ViewFile
from deltavcs.objects.derivation import Derivation, Operand
from deltavcs.objects.domain import tensor_domain
from deltavcs.objects.model import FileEntry, Manifest, TensorEntry
from deltavcs.objects.reader import BlobReader
from deltavcs.objects.store import ObjectStore
from deltavcs.oid import BlobId
from deltavcs.tensors.dtypes import dtype_of

_PREFIX = "computed:"


class ComputedReader(BlobReader):
    """Reads stored blobs, and those that `ComputedStore.add` named."""

    def __init__(self, objects: ObjectStore) -> None:
        super().__init__(objects.packs.copies, objects.packs.open)
        self.tensors: dict[BlobId, Content] = {}
        self.files: dict[BlobId, bytes] = {}

    def read_into(self, blob: BlobId, start: int, out: Any) -> None:
        """As `BlobReader.read_into`; of a computed tensor whole elements."""
        content = self.tensors.get(blob)
        if content is None:
            super().read_into(blob, start, out)
        elif content.computed is not None:
            content.computed.read_into(start, memoryview(out).cast("B"), content.dtype)

    def read(self, blob: BlobId, *, max_bytes: int) -> bytes:
        """As `BlobReader.read`."""
        return self.files[blob] if blob in self.files else super().read(blob, max_bytes=max_bytes)

    def padded(self, blob: BlobId, start: int, n_bytes: int) -> npt.NDArray[np.uint8]:
        """As `BlobReader.padded`."""
        content = self.tensors.get(blob)
        if content is None:
            return super().padded(blob, start, n_bytes)
        out = np.zeros(n_bytes, np.uint8)
        have = max(0, min(content.size - start, n_bytes))
        if have:
            self.read_into(blob, start, out.data[:have])
        return out

    def _elements(self, operand: Operand, first: int, count: int) -> tuple[str, npt.NDArray[np.uint8]]:
        content = self.tensors.get(operand.blob)
        if content is None:
            return super()._elements(operand, first, count)
        itemsize = dtype_of(content.dtype).itemsize
        have = max(0, min(operand.elements - first, count))
        return content.dtype, self.padded(operand.blob, first * itemsize, have * itemsize)


class ComputedStore(ObjectStore):
    """The object store, with computed checkpoints in it for as long as it lives. For reading only."""

    def __init__(self, objects: ObjectStore) -> None:
        self.storage, self.packs = objects.storage, objects.packs
        self._reader = ComputedReader(objects)

    @property
    def blobs(self) -> BlobReader:
        """Reads blobs, stored and computed ones."""
        return self._reader

    def add(self, view: View) -> Manifest:
        """The manifest of a view; what it computes, and files whose bytes are at hand, get names for now."""
        files = tuple(
            FileEntry(f.path, f.size, f.blob or self._name_file(f), f.keys, executable=f.executable)
            for f in view.files
        )
        tensors = {
            k: TensorEntry(c.blob or self._name_tensor(c), c.dtype, c.shape) for k, c in view.tensors.items()
        }
        return Manifest(files, tensors)

    def _name_file(self, file: ViewFile) -> BlobId:
        name = BlobId(f"{_PREFIX}file {len(self._reader.files)}")
        self._reader.files[name] = file.data or b""
        return name

    def _name_tensor(self, content: Content) -> BlobId:
        name = BlobId(f"{_PREFIX}tensor {len(self._reader.tensors)}")
        self._reader.tensors[name] = content
        return name

    def stored_view(self, view: View) -> View:
        """The same view without names that only this store knows: computed tensors in their place."""
        files = tuple(self._file(f) for f in view.files)
        return View(files, {k: self._content(c) for k, c in view.tensors.items()})

    def _file(self, file: ViewFile) -> ViewFile:
        data = self._reader.files.get(file.blob) if file.blob is not None else None
        return file if data is None else replace(file, blob=None, data=data)

    def _content(self, content: Content) -> Content:
        known: Mapping[BlobId, Content] = self._reader.tensors
        if content.blob is not None and content.blob in known:
            return known[content.blob]
        if content.derivation is None or not any(x.blob in known for x in content.derivation.inputs):
            return content
        computed: Computed = _Derived(self._reader, content.derivation, content.shape)
        return replace(content, derivation=None, computed=computed)


@dataclass(frozen=True, slots=True)
class _Derived:
    """An operator on computed tensors."""

    reader: BlobReader
    derivation: Derivation
    shape: tuple[int, ...]

    def read_into(self, start: int, out: memoryview, dtype: str) -> None:
        """Fill `out` with the bytes from `start` on, rounded once to `dtype`."""
        self.reader.derive(self.derivation, tensor_domain(dtype, self.shape), start, out)
