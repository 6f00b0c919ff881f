"""Every dtype a safetensors file can hold: its size in bits and what arithmetic it allows.

Sub-byte types (F4, F6) are stored packed; a tensor's size must come out at whole bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, FormatError


@dataclass(frozen=True, slots=True)
class Dtype:
    """One safetensors dtype.

    Attributes:
        name: as safetensors spells it.
        bits: size of one element.
        arithmetic: True if tensors of it can be added and scaled (spec §7.2); others are only copied.
    """

    name: str
    bits: int
    arithmetic: bool = False

    @property
    def itemsize(self) -> int:
        """Bytes per element for byte planes; 1 for sub-byte types."""
        return max(1, self.bits // 8)


DTYPES: dict[str, Dtype] = {
    d.name: d
    for d in (
        Dtype("F64", 64, arithmetic=True),
        Dtype("F32", 32, arithmetic=True),
        Dtype("F16", 16, arithmetic=True),
        Dtype("BF16", 16, arithmetic=True),
        Dtype("F8_E4M3", 8, arithmetic=True),
        Dtype("F8_E5M2", 8, arithmetic=True),
        Dtype("F8_E4M3FNUZ", 8),
        Dtype("F8_E5M2FNUZ", 8),
        Dtype("F8_E8M0", 8),
        Dtype("F6_E2M3", 6),
        Dtype("F6_E3M2", 6),
        Dtype("F4", 4),
        Dtype("BOOL", 8),
        Dtype("U8", 8),
        Dtype("I8", 8),
        Dtype("U16", 16),
        Dtype("I16", 16),
        Dtype("U32", 32),
        Dtype("I32", 32),
        Dtype("U64", 64),
        Dtype("I64", 64),
        Dtype("C64", 64),
    )
}


def dtype_of(name: str) -> Dtype:
    """Return the dtype called `name`.

    Raises:
        FormatError: `unsupported-dtype` if safetensors has no such dtype.
    """
    found = DTYPES.get(name)
    if found is None:
        raise FormatError(
            f"unknown dtype {name!r}",
            kind=ErrorKind.UNSUPPORTED_DTYPE,
            advice=Advice.KNOWN_DTYPES,
            facts={"dtypes": ", ".join(DTYPES)},
        )
    return found


def n_elements(shape: tuple[int, ...]) -> int:
    """Product of the dimensions; 1 for a 0-d tensor."""
    count = 1
    for dim in shape:
        count *= dim
    return count


def n_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Bytes of a packed tensor.

    Raises:
        FormatError: `unsupported-dtype` for an unknown dtype, `bad-header` if a sub-byte tensor does
            not fill whole bytes.
    """
    bits = n_elements(shape) * dtype_of(dtype).bits
    if bits % 8:
        raise FormatError(
            f"a {dtype} tensor of shape {list(shape)} does not fill whole bytes", kind=ErrorKind.BAD_HEADER
        )
    return bits // 8
