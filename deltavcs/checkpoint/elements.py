"""Elements of stored tensors: as they are stored, and as float64."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from deltavcs.objects.model import TensorEntry
from deltavcs.objects.store import ObjectStore
from deltavcs.tensors.cast import to_float64
from deltavcs.tensors.dtypes import dtype_of


def read_elements(
    objects: ObjectStore, entry: TensorEntry, start: int, count: int
) -> npt.NDArray[np.float64]:
    """Elements `start` to `start + count` of a tensor in row-major order, as float64, shape (count,).

    Zeros follow a tensor that is shorter. Raises as `BlobReader.padded` does.
    """
    dtype, raw = read_raw(objects, entry, start, count)
    return to_float64(raw, dtype)


def read_raw(
    objects: ObjectStore, entry: TensorEntry, start: int, count: int
) -> tuple[str, npt.NDArray[np.uint8]]:
    """The same as dtype and bytes."""
    itemsize = dtype_of(entry.dtype).itemsize
    return entry.dtype, objects.blobs.padded(entry.blob, start * itemsize, count * itemsize)
