"""Byte planes: byte i of every element, one plane after the other, lowest byte first (spec v1-codec §3)."""

from __future__ import annotations

import numpy as np

from deltavcs.codec.api import Bytes
from deltavcs.codec.codec_kernels import kernels


def split_planes(data: Bytes, itemsize: int, base: Bytes | None = None) -> Bytes:
    """Return the planes of `data`, of `data XOR base` if there is a base.

    Args:
        data: n·itemsize bytes.
        itemsize: bytes per element.
        base: n·itemsize bytes, or None.
    """
    if itemsize == 1:
        return data if base is None else np.bitwise_xor(data, base)
    native = kernels()
    if native is not None:
        planes = np.empty(data.size, np.uint8)
        native[0].planes(native[1], itemsize, False, data, base, planes)
        return planes
    if base is not None:
        data = np.bitwise_xor(data, base)
    return np.ascontiguousarray(data.reshape(-1, itemsize).T).reshape(-1)


def join_planes(planes: Bytes, itemsize: int, out: Bytes, base: Bytes | None = None) -> None:
    """Undo `split_planes` into `out`.

    Args:
        planes: as many bytes as `out`.
        itemsize: bytes per element.
        out: filled in place; may not overlap the others.
        base: XORed onto the result, or None.
    """
    native = kernels()
    if native is not None and itemsize > 1:
        native[0].planes(native[1], itemsize, True, planes, base, out)
        return
    elements = out.reshape(-1, itemsize)
    if base is None:
        elements[...] = planes.reshape(itemsize, -1).T
    else:
        np.bitwise_xor(planes.reshape(itemsize, -1).T, base.reshape(-1, itemsize), out=elements)
