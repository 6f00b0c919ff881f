"""Merged tensors that are no formula: computed once into a scratch file, then stored as deltas."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from deltavcs.checkpoint.view import Content
from deltavcs.errors import ErrorKind, InternalError
from deltavcs.storage import FileReader


class ScratchFile(Protocol):
    """A file of a `deltavcs.storage.Workspace`."""

    path: Path
    size: int

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Write at the end."""
        ...


@dataclass(frozen=True, slots=True)
class SpooledTensor:
    """A computed tensor whose rounded bytes lie in a scratch file. See `view.Computed`."""

    file: FileReader
    offset: int
    dtype: str

    def read_into(self, start: int, out: memoryview, dtype: str) -> None:
        """Fill `out`; the dtype was chosen when the tensor was computed."""
        if dtype != self.dtype:
            raise InternalError(f"computed as {self.dtype}, asked for {dtype}", kind=ErrorKind.BUG)
        self.file.read_into(self.offset + start, out)


class Spool:
    """Collects computed tensors in one scratch file, which must outlive the contents."""

    def __init__(self, file: ScratchFile) -> None:
        self._file = file
        self._reader = FileReader(file.path)

    def add(self, dtype: str, shape: tuple[int, ...], blocks: Iterable[Any]) -> Content:
        """Write a tensor's rounded bytes, block after block, and return it as a content."""
        offset = self._file.size
        for block in blocks:
            self._file.append(memoryview(block))
        content = Content(dtype, shape, computed=SpooledTensor(self._reader, offset, dtype))
        if self._file.size - offset != content.size:
            raise InternalError("a computed tensor has the wrong size", kind=ErrorKind.BUG)
        return content

    def close(self) -> None:
        """Close the file. Contents cannot be read any more."""
        self._reader.close()
