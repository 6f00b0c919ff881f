"""Decoded chunks that are kept.

Bases are read again and again: to choose how to store a blob, to encode it, to compare it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from deltavcs.oid import BlobId
from deltavcs.resources import Resources

# A derived chunk and those of its inputs, which are read in smaller blocks.
_BYTES_PER_THREAD = 8 << 20
# With the default budget, what all blobs that are planned ahead were compared with is still there.
_SHARE = 16

Bytes = npt.NDArray[np.uint8]


class ChunkCache:
    """Chunks by blob and number, those used last, up to a number of bytes. Thread-safe."""

    def __init__(self) -> None:
        self._limit_bytes = _BYTES_PER_THREAD
        self._chunks: OrderedDict[tuple[BlobId, int], Bytes] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.Lock()

    def prepare(self, resources: Resources) -> None:
        """Keep as many bytes as work with these resources needs."""
        least = _BYTES_PER_THREAD * resources.threads
        self._limit_bytes = max(least, resources.memory_bytes // _SHARE)

    def __contains__(self, key: tuple[BlobId, int]) -> bool:
        return key in self._chunks

    def get(self, key: tuple[BlobId, int]) -> Bytes | None:
        """The chunk, not to be written to, or None."""
        with self._lock:
            found = self._chunks.get(key)
            if found is not None:
                self._chunks.move_to_end(key)
            return found

    def put(self, key: tuple[BlobId, int], chunk: Bytes) -> None:
        """Keep a chunk, which nobody writes to from now on; the last one stays whatever its size."""
        with self._lock:
            if key not in self._chunks:
                self._chunks[key] = chunk
                self._n_bytes += len(chunk)
            while self._n_bytes > self._limit_bytes and len(self._chunks) > 1:
                self._n_bytes -= len(self._chunks.popitem(last=False)[1])
