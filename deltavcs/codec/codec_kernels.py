"""The native kernels of the codec, if they were built; numpy stands in where they were not.

Every level writes and reads the same bytes. Tests and benchmarks force one with `set_level`.
"""

from __future__ import annotations

from deltavcs.tensors.extension import Extension
from deltavcs.tensors.extension import NativeInfo as NativeInfo

_extension = Extension("deltavcs.codec._native")
levels = _extension.levels
set_level = _extension.set_level
native_info = _extension.info
kernels = _extension.kernels
