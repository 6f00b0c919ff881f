"""The native kernels of arithmetic, if they were built; numpy stands in where they were not.

Every level gives the same bits. Tests and benchmarks force one with `set_level`.
"""

from __future__ import annotations

from deltavcs.tensors.extension import NUMPY as NUMPY
from deltavcs.tensors.extension import Extension

CODES = {"F64": 0, "F32": 1, "F16": 2, "BF16": 3, "F8_E5M2": 4, "F8_E4M3": 5}
"""What the kernels call each arithmetic dtype."""

_extension = Extension("deltavcs.tensors._native")
levels = _extension.levels
set_level = _extension.set_level
native_info = _extension.info
kernels = _extension.kernels
