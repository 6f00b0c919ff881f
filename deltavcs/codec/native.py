"""The native kernels of the codec, if they were built; numpy stands in where they were not.

Every level writes and reads the same bytes. Tests and benchmarks force one with `set_level`.
"""

from __future__ import annotations

from dataclasses import dataclass

from deltavcs.codec.numbers import Layout
from deltavcs.tensors.extension import Extension
from deltavcs.tensors.extension import NativeInfo as NativeInfo

_extension = Extension("deltavcs.codec._native")
levels = _extension.levels
set_level = _extension.set_level
native_info = _extension.info
kernels = _extension.kernels


@dataclass(frozen=True, slots=True)
class Model:
    """A tensor as the kernels know it.

    Attributes:
        layout: number format.
        top: exponent that contexts or tokens count down from.
        is_exp: EXP, else DELTA.
        table_of: 17 bytes.
    """

    layout: Layout
    top: int
    is_exp: bool
    table_of: bytes

    def args(self) -> tuple[int, int, int, bool, bytes]:
        """The arguments that every coding kernel takes after the level."""
        return self.layout.width, self.layout.mantissa, self.top, self.is_exp, self.table_of
