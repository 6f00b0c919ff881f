"""From a view to tensors in memory or on a device. One of the few modules that import torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deltavcs.advice import Advice
from deltavcs.checkpoint.device import checked_device, import_torch
from deltavcs.checkpoint.view import Content, View
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.store import ObjectStore
from deltavcs.pool import Pool
from deltavcs.resources import SPAN_BYTES, Resources

if TYPE_CHECKING:
    import torch

_TORCH_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "C64": "complex64",
}


def torch_name(dtype: str) -> str:
    """How torch and `config.json` spell a safetensors dtype; needs no torch."""
    return _TORCH_NAMES[dtype]


def torch_dtypes() -> frozenset[torch.dtype]:
    """The torch dtypes that safetensors has a name for."""
    torch = import_torch()
    return frozenset(getattr(torch, name) for name in _TORCH_NAMES.values() if hasattr(torch, name))


def torch_dtype(dtype: str) -> torch.dtype:
    """The torch dtype of a safetensors dtype.

    Raises:
        InvalidInputError: `incompatible` if this torch has none, as for packed 4- and 6-bit types.
    """
    torch = import_torch()
    found = getattr(torch, _TORCH_NAMES.get(dtype, ""), None)
    if found is None:
        raise InvalidInputError(
            f"torch {torch.__version__} has no dtype for {dtype}",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.CHECK_OUT,
        )
    return found  # type: ignore[no-any-return]


def load_tensors(
    objects: ObjectStore, tensors: Iterable[tuple[str, Content]], *, device: str, resources: Resources
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield name and tensor, one after another, decoded ahead in parallel and moved to `device`.

    Values are bit for bit those of the repository: the arithmetic of derivations is done here, in
    float64, and never left to the device.

    Raises:
        InvalidInputError: `incompatible` for a dtype that torch does not have; `bad-argument` for a device
            that is not here.
        IntegrityError: stored data is damaged.
        MissingDependencyError: torch is not installed.
    """
    torch = import_torch()
    checked_device(device)
    objects.blobs.prepare(resources)
    with Pool(resources) as pool:
        for span in pool.map(lambda span: _fill(objects, span), _spans(tensors), size=_size):
            if span.start + SPAN_BYTES < span.content.size:
                continue
            # torch has no zero-sized frombuffer
            flat = torch.from_numpy(span.whole) if span.content.size else torch.empty(0, dtype=torch.uint8)
            tensor = flat.view(torch_dtype(span.content.dtype)).reshape(span.content.shape)
            yield span.name, tensor if device == "cpu" else tensor.to(device)


@dataclass(frozen=True, slots=True)
class _Span:
    """A range of one tensor, and the memory of all of it."""

    name: str
    content: Content
    start: int
    whole: npt.NDArray[np.uint8]


def _spans(tensors: Iterable[tuple[str, Content]]) -> Iterator[_Span]:
    for name, content in tensors:
        whole = np.empty(content.size, np.uint8)
        yield from (_Span(name, content, at, whole) for at in range(0, max(1, content.size), SPAN_BYTES))


def _size(span: _Span) -> int:
    return min(SPAN_BYTES, span.content.size - span.start)


def _fill(objects: ObjectStore, span: _Span) -> _Span:
    span.content.read_into(objects.blobs, span.start, span.whole[span.start : span.start + SPAN_BYTES].data)
    return span


def load_state(objects: ObjectStore, view: View, *, device: str, resources: Resources) -> dict[str, Any]:
    """All of the checkpoint's own tensors by name, on `device`. Raises as `load_tensors` does."""
    state = {}
    total = sum(c.size for c in view.primary.values())
    done = 0
    for name, tensor in load_tensors(objects, view.primary.items(), device=device, resources=resources):
        state[name] = tensor
        done += view.tensors[name].size
        resources.progress("loading", done, total)
    return state
