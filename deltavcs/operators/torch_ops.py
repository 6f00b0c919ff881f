"""The derived operators on torch tensors of any device, equal to numpy to the bit (spec v1-derived §4).

What this depends on, and the tests check on every device at hand:

* Each arithmetic step is its own torch call on float64, so nothing can be contracted into a fused
  multiply-add: no `addcmul`, no `add(alpha=…)`, no compiled region.
* A division by a Python scalar becomes a product with the reciprocal on CUDA, so divisors are tensors.
* int64 products wrap around, so they are products modulo 2^64; right shifts carry the sign and are masked.
* Rounding to a stored dtype works on bit patterns, never through `Tensor.to(torch.bfloat16)`, which passes
  through float32 and rounds twice.

Devices without float64 (Apple's MPS) cannot run them: move the inputs to the CPU.

torch is imported inside the functions: importing this module does not load it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deltavcs.errors import ErrorKind, FormatError
from deltavcs.operators.kernels import Array
from deltavcs.operators.mask import GAMMA, MASK_64, MIX_1, MIX_2
from deltavcs.operators.parse import Params, check_block, parse, run
from deltavcs.tensors.cast import FloatLayout, float8_table, layout_of, require_subnormals

if TYPE_CHECKING:
    import torch

_INT64_MAX = (1 << 63) - 1
_INF_BITS = 0x7FF << 52


class TorchBackend:
    """`deltavcs.operators.kernels.Backend` on torch tensors."""

    def where(self, condition: Array, chosen: Array) -> Array:
        """Return `chosen` where `condition` holds, +0.0 elsewhere."""
        import torch

        return torch.where(condition, chosen, torch.zeros((), dtype=torch.float64, device=chosen.device))

    def as_float(self, condition: Array) -> Array:
        """Return 1.0 where `condition` holds, +0.0 elsewhere, float64."""
        import torch

        return condition.to(torch.float64)

    def divide(self, values: Array, divisor: float) -> Array:
        """Return `values ÷ divisor`, truly divided."""
        import torch

        return values / torch.full((1,), divisor, dtype=torch.float64, device=values.device)

    def keep_mask(self, key: int, keep: int, start: int, like: Array) -> Array:
        """Return the mask of `deltavcs.operators.mask`, on the device of `like`."""
        return keep_mask(key, keep, start, like)


def evaluate(op: str, params: Params, inputs: Sequence[torch.Tensor], start: int) -> torch.Tensor:
    """Evaluate an operator on one block of consecutive elements, on the inputs' device.

    Args:
        op: name of the operator.
        params: its parameters.
        inputs: the same block of every input, float64, shape (n,), all on one device.
        start: flat row-major index of the block's first element in the tensor.

    Returns:
        float64, shape (n,), on the same device; it may be one of the inputs.

    Raises:
        FormatError: `unsupported-feature` or `bad-object` for anything malformed.
        InvalidInputError: `bad-argument` if the thread flushes subnormals.
    """
    import torch

    operation = parse(op, params, len(inputs))
    check_block([block.shape for block in inputs], start)
    if any(block.dtype != torch.float64 for block in inputs):
        raise FormatError("the inputs of a derived block are float64", kind=ErrorKind.BAD_OBJECT)
    require_subnormals()
    with torch.no_grad():
        result: torch.Tensor = run(operation, inputs, start, TorchBackend())
    return result


def keep_mask(key: int, keep: int, start: int, like: torch.Tensor) -> torch.Tensor:
    """Return which of the elements from `start` on are kept, bool, shape and device of `like`.

    The same words as `deltavcs.operators.mask.random_words`, in wrapping int64 arithmetic.
    """
    import torch

    z = torch.arange(like.numel(), dtype=torch.int64, device=like.device)
    z = z * _signed(GAMMA) + _signed(key + (start + 1) * GAMMA)
    z = (z ^ _shift_right(z, 30)) * _signed(MIX_1)
    z = (z ^ _shift_right(z, 27)) * _signed(MIX_2)
    z = z ^ _shift_right(z, 31)
    return _shift_right(z, 32) < keep


def to_float64(raw: torch.Tensor, dtype: str) -> torch.Tensor:
    """Widen raw little-endian elements to float64, exactly.

    Args:
        raw: uint8, shape (n * itemsize,), any device.
        dtype: safetensors name of an arithmetic dtype.

    Returns:
        float64, shape (n,), on the same device; a fresh tensor.

    Raises:
        FormatError: `bad-payload` if `raw` does not hold whole elements, `unsupported-dtype`.
        InvalidInputError: `unsupported-dtype`, or `bad-argument` if the thread flushes subnormals.
    """
    import torch

    layout = layout_of(dtype)
    require_subnormals()
    itemsize = layout.bits // 8
    if raw.dtype != torch.uint8 or raw.dim() != 1 or raw.numel() % itemsize:
        raise FormatError(f"{raw.numel()} values are not the bytes of {dtype}", kind=ErrorKind.BAD_PAYLOAD)
    if itemsize == 1:
        return torch.tensor(float8_table(dtype), device=raw.device)[raw.to(torch.int64)]
    data = raw.contiguous()
    if data.data_ptr() % itemsize or data.storage_offset() % itemsize:
        data = data.clone()
    if dtype == "BF16":
        return (data.view(torch.int16).to(torch.int32) << 16).view(torch.float32).to(torch.float64)
    kind = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16}[dtype]
    return data.view(kind).to(torch.float64, copy=True)


def from_float64(values: torch.Tensor, dtype: str) -> torch.Tensor:
    """Round float64 values once, to nearest, ties to even: `deltavcs.tensors.cast.from_float64`.

    Args:
        values: float64, any shape, read in row-major order, any device.
        dtype: safetensors name of an arithmetic dtype.

    Returns:
        uint8, shape (values.numel() * itemsize,), on the same device; a fresh tensor.

    Raises:
        FormatError: `unsupported-dtype` for an unknown dtype.
        InvalidInputError: `unsupported-dtype` for a dtype without arithmetic.
    """
    import torch

    layout = layout_of(dtype)
    bits = values.detach().contiguous().reshape(-1).view(torch.int64)
    magnitude = bits & _INT64_MAX
    if layout.bits == 64:
        rounded = bits
    else:
        rounded = _round(magnitude, layout) | ((bits < 0).to(torch.int64) << (layout.bits - 1))
    rounded = torch.where(magnitude > _INF_BITS, layout.nan, rounded)
    if layout.bits == 8:
        return rounded.to(torch.uint8)
    signed = {16: torch.int16, 32: torch.int32, 64: torch.int64}[layout.bits]
    return rounded.to(signed).view(torch.uint8)


def _round(magnitude: torch.Tensor, layout: FloatLayout) -> torch.Tensor:
    """Bits of |x| to the target's pattern without sign: both paths for every element, then a choice."""
    import torch

    dropped = 52 - layout.fraction_bits
    rebias = (1023 - layout.bias) << layout.fraction_bits
    normal = (magnitude + ((1 << (dropped - 1)) - 1) + ((magnitude >> dropped) & 1)) >> dropped
    normal = (normal - rebias).clamp(max=layout.overflow)
    exponent = magnitude >> 52
    floor = 1024 - layout.bias
    shift = (dropped + (floor - exponent).clamp(min=0)).clamp(max=62)
    significand = (magnitude & ((1 << 52) - 1)) | ((exponent > 0).to(torch.int64) << 52)
    half = (torch.ones_like(shift) << (shift - 1)) - 1
    below = (significand + half + ((significand >> shift) & 1)) >> shift
    return torch.where(exponent < floor, below, normal)


def _shift_right(z: torch.Tensor, shift: int) -> torch.Tensor:
    """Logical right shift of 64-bit words kept in int64."""
    return (z >> shift) & ((1 << (64 - shift)) - 1)


def _signed(word: int) -> int:
    """Return the two's-complement reading of `word` modulo 2^64."""
    word &= MASK_64
    return word - (1 << 64) if word > _INT64_MAX else word
