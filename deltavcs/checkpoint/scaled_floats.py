"""8-bit floats with scales: which scale belongs to which weight of a matrix.

W[i, j] = q[i, j] · s[i // m, j // n] for blocks of m × n weights (DeepSeek-V3, §3.3): one scale for the
matrix, one for each row, or a grid of them. Where the block does not divide the matrix, the last blocks are
smaller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from deltavcs.tensors.dtypes import n_elements

# Block-scaled releases that name no size of the block have this one.
_USUAL = (128, 128)
NOT_OF_WEIGHTS = (
    "input_scale", "input_scale_ub", "activation_scale", "output_scale", "k_scale", "v_scale", "q_scale",
    "prob_scale", "qscale_act", "scale_input",
)  # fmt: skip
"""Companions that scale activations or the cache; they are dropped with the quantisation."""

_SCALES = ("scale_inv", "scale", "scale_weight", "qscale_weight")
# Parts of a tensor of TorchAO or Quanto, which has a name of its own.
_NO_NAMES = ("qdata", "_data", ".data")
_METHODS = ("", "fp8", "fbgemm_fp8", "compressed-tensors", "modelopt", "float8", "quark", "mxfp8")
_SCALE_DTYPES = ("F64", "F32", "F16", "BF16", "F8_E8M0", "U8")


class TypedTensor(Protocol):
    """A tensor of which only dtype and shape are asked."""

    @property
    def dtype(self) -> str:
        """As safetensors spells it."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Its dimensions."""
        ...


@dataclass(frozen=True, slots=True)
class ScaledFloats:
    """A weight of 8-bit floats.

    Attributes:
        scale: key of its scales.
        rows, columns: of a block that shares a scale.
        grid: scales in a row and a column of blocks; of each matrix, where there are several.
    """

    scale: str
    rows: int
    columns: int
    grid: tuple[int, int]


def match_scales(
    payloads: Mapping[str, Mapping[str, str]],
    tensors: Mapping[str, TypedTensor],
    *,
    method: str,
    block: tuple[int, int] | None,
) -> dict[str, ScaledFloats] | str:
    """The scales of every payload; or, in words, why they do not tell its weights.

    Args:
        payloads: as `Quantisation.payloads`.
        method: as `Declared.method`.
        block: its declared size.
    """
    if method not in _METHODS:
        return f"{method} is none of 8-bit floats with scales"
    out = {}
    for key, beside in payloads.items():
        found = _match_one(tensors[key], beside, tensors, block)
        if key.endswith(_NO_NAMES):
            found = "is not called as the weight is"
        if isinstance(found, str):
            return f"{key} {found}"
        out[key] = found
    return out


def _match_one(
    weight: TypedTensor,
    beside: Mapping[str, str],
    tensors: Mapping[str, TypedTensor],
    block: tuple[int, int] | None,
) -> ScaledFloats | str:
    if weight.dtype not in ("F8_E4M3", "F8_E5M2"):
        return f"is {weight.dtype}"
    kinds = [k for k in beside if k not in NOT_OF_WEIGHTS]
    if len(kinds) != 1 or kinds[0] not in _SCALES:
        return f"has {' and '.join(sorted(kinds)) or 'no scale'} beside it"
    scale = tensors[beside[kinds[0]]]
    if scale.dtype not in _SCALE_DTYPES:
        return f"has scales of dtype {scale.dtype}"
    found = _blocks(weight.shape, scale.shape, block)
    if found is None:
        return f"{list(weight.shape)} has scales {list(scale.shape)}"
    return ScaledFloats(beside[kinds[0]], *found)


def _blocks(
    shape: tuple[int, ...], scales: tuple[int, ...], block: tuple[int, int] | None
) -> tuple[int, int, tuple[int, int]] | None:
    """Rows and columns of a block and the grid of blocks; None if the scales do not fit the weight."""
    if not shape or not n_elements(shape):
        return None
    *_, rows, columns = (1, *shape)
    leading = n_elements(shape[:-2])
    if n_elements(scales) == 1 and leading == 1:
        return rows, columns, (1, 1)
    if scales == shape[:-1]:  # one for each row
        scales = (*scales, 1)
    elif scales == shape[:-2] and leading > 1:  # one for each of several matrices
        scales = (*scales, 1, 1)
    if len(shape) < 2 or len(scales) != len(shape) or scales[:-2] != shape[:-2] or 0 in scales:
        return None
    for size in (block, _USUAL):
        if size is not None and (-(-rows // size[0]), -(-columns // size[1])) == scales[-2:]:
            return *size, (scales[-2], scales[-1])
    found = _size_of(rows, scales[-2]), _size_of(columns, scales[-1])
    return (*found, (scales[-2], scales[-1])) if all(found) else None


def _size_of(length: int, count: int) -> int:
    """Rows or columns of an unnamed block; 0 if they are a guess: 200 may be 4 × 50, or 3 × 64 and 8."""
    size, rest = divmod(length, count)
    return size if not rest and (count == 1 or size & (size - 1) == 0) else 0
