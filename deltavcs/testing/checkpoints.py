"""Small checkpoints made from bytes, so that files come out in any form safetensors allows."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8, "F8_E8M0": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4, "BOOL": 8, "U8": 8, "I8": 8,
    "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64, "C64": 64,
}  # fmt: skip
"""Every safetensors dtype and its width."""


@dataclass(frozen=True, slots=True)
class RawTensor:
    """A tensor as safetensors stores it."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


def raw_tensor(dtype: str, shape: Sequence[int], data: bytes | None = None, *, seed: int = 0) -> RawTensor:
    """A tensor of the given bytes, or of plausible weights: small normal numbers where the dtype has them."""
    count = int(np.prod(shape, dtype=np.int64))
    size = count * BITS[dtype] // 8
    if data is None:
        data = _weights(dtype, count, size, np.random.default_rng(seed))
    if len(data) != size:
        raise ValueError(f"{dtype} {list(shape)} needs {size} bytes, not {len(data)}")
    return RawTensor(dtype, tuple(shape), data)


def _weights(dtype: str, count: int, size: int, rng: np.random.Generator) -> bytes:
    if dtype == "BOOL":
        return rng.integers(0, 2, count, np.uint8).tobytes()
    if dtype not in ("F64", "F32", "F16", "BF16"):
        return rng.integers(0, 256, size, np.uint8).tobytes()
    return _narrow(dtype, rng.normal(0, 0.02, count))


def _narrow(dtype: str, values: np.ndarray[Any, Any]) -> bytes:
    if dtype == "BF16":
        return (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return values.astype({"F64": "<f8", "F32": "<f4", "F16": "<f2"}[dtype]).tobytes()


def _widen(dtype: str, data: bytes) -> np.ndarray[Any, Any]:
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4").astype(np.float64)
    return np.frombuffer(data, {"F64": "<f8", "F32": "<f4", "F16": "<f2"}[dtype]).astype(np.float64)


def fine_tuned(
    tensors: Mapping[str, RawTensor], *, seed: int, scale: float = 0.01, share: float = 1.0
) -> dict[str, RawTensor]:
    """The tensors after a small update of `share` of their weights: floats move, other bytes flip."""
    rng = np.random.default_rng(seed)
    out = {}
    for name, tensor in tensors.items():
        if tensor.dtype in ("F64", "F32", "F16", "BF16"):
            with np.errstate(all="ignore"):
                old = _widen(tensor.dtype, tensor.data)
                moved = old + scale * rng.normal(size=old.size) * 0.02
                data = _narrow(tensor.dtype, np.where(rng.random(old.size) < share, moved, old))
        else:
            old = np.frombuffer(tensor.data, np.uint8)
            data = np.where(rng.random(old.size) < 0.05 * share, old ^ 1, old).astype(np.uint8).tobytes()
        out[name] = replace(tensor, data=data)
    return out


def safetensors_bytes(
    tensors: Mapping[str, RawTensor],
    *,
    metadata: Mapping[str, str] | None = None,
    key_order: Sequence[str] | None = None,
    padding: int | None = None,
    indent: int | None = None,
    ascii_only: bool = False,
) -> bytes:
    """A safetensors file: data in the order of `tensors`, header keys in `key_order`.

    Args:
        metadata: the `__metadata__` map.
        key_order: names as the header lists them; offsets stay those of `tensors`.
        padding: spaces after the JSON text; by default up to 8 bytes' alignment.
        indent: as for `json.dumps`: a header with white space inside.
        ascii_only: write non-ASCII names as escapes.
    """
    table: dict[str, Any] = {}
    at = 0
    for name, tensor in tensors.items():
        end = at + len(tensor.data)
        table[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    listed: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata is not None else {}
    listed.update({name: table[name] for name in key_order or table})
    separators = (",", ":") if indent is None else None
    text = json.dumps(listed, indent=indent, separators=separators, ensure_ascii=ascii_only).encode()
    text += b" " * (-len(text) % 8 if padding is None else padding)
    return struct.pack("<Q", len(text)) + text + b"".join(t.data for t in tensors.values())


def write_checkpoint(
    directory: Path,
    tensors: Mapping[str, RawTensor],
    *,
    shards: int = 1,
    files: Mapping[str, bytes] | None = None,
    **framing: Any,
) -> Path:
    """Write a checkpoint directory in Hugging Face layout and return it.

    Args:
        shards: number of safetensors files; with more than one, an index is written as well.
        files: other files, by relative path.
        framing: as for `safetensors_bytes`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if shards == 1:
        (directory / "model.safetensors").write_bytes(safetensors_bytes(tensors, **framing))
    else:
        _write_shards(directory, tensors, shards, framing)
    for path, data in (files or {}).items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return directory


def _write_shards(
    directory: Path, tensors: Mapping[str, RawTensor], shards: int, framing: Mapping[str, Any]
) -> None:
    weight_map: dict[str, str] = {}
    for i in range(shards):
        part = {n: t for k, (n, t) in enumerate(tensors.items()) if k % shards == i}
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        (directory / file).write_bytes(safetensors_bytes(part, **framing))
        weight_map.update(dict.fromkeys(part, file))
    total = sum(len(t.data) for t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
