"""The native kernels of arithmetic, if they were built; numpy stands in where they were not.

Every level gives the same bits. Tests and benchmarks force one with `set_level`.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

from deltavcs.errors import ErrorKind, InvalidInputError

try:
    import deltavcs.tensors._native as _native
except ImportError as exc:
    _module: ModuleType | None = None
    _WHY_NOT = f"the native kernels were not built ({exc}); reinstall with a C compiler at hand"
else:
    _module = _native
    _WHY_NOT = ""

NUMPY = "numpy"
_LEVELS = ("scalar", "avx2", "avx512")

CODES = {"F64": 0, "F32": 1, "F16": 2, "BF16": 3, "F8_E5M2": 4, "F8_E4M3": 5}
"""What the kernels call each arithmetic dtype."""


@dataclass(frozen=True, slots=True)
class NativeInfo:
    """Which kernels this process uses.

    Attributes:
        available: True if the C extension was built and loads.
        level: `avx512`, `avx2`, `scalar`, or `numpy` without the extension.
        why: the reason, for people.
    """

    available: bool
    level: str
    why: str


class _Choice:
    """The level in use, for the whole process."""

    def __init__(self) -> None:
        self.best = -1 if _module is None else int(_module.best_level())
        self.level = self.best


_choice = _Choice()


def levels() -> tuple[str, ...]:
    """The levels this machine can run, slowest first."""
    return (NUMPY, *_LEVELS[: _choice.best + 1])


def set_level(name: str) -> None:
    """Use the kernels of `name` from now on, in the whole process. For tests and benchmarks.

    Raises:
        InvalidInputError: `bad-argument` if this machine cannot run them.
    """
    if name not in levels():
        known = ", ".join(levels())
        raise InvalidInputError(
            f"no kernels of level {name!r} here", kind=ErrorKind.BAD_ARGUMENT, hint=f"one of {known}"
        )
    _choice.level = levels().index(name) - 1


def native_info() -> NativeInfo:
    """Say which kernels are in use."""
    name = levels()[_choice.level + 1]
    if _module is None:
        return NativeInfo(False, name, _WHY_NOT)
    if _choice.level < _choice.best:
        return NativeInfo(True, name, "chosen by set_level()")
    return NativeInfo(True, name, "the best this processor can run")


def kernels() -> tuple[ModuleType, int] | None:
    """The extension and the level to call it with; None if numpy is to do the work."""
    return None if _module is None or _choice.level < 0 else (_module, _choice.level)
