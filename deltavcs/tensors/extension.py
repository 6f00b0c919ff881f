"""A C extension with kernels for several processors; numpy stands in where it was not built."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

from deltavcs.errors import ErrorKind, InvalidInputError

NUMPY = "numpy"


@dataclass(frozen=True, slots=True)
class NativeInfo:
    """Which kernels this process uses.

    Attributes:
        available: True if the C extension was built and loads.
        level: `avx512`, `avx512-loads` (reads tables of 16-bit weights without gathers), `avx2`, `scalar`,
            or `numpy` without the extension.
        why: the reason, for people.
    """

    available: bool
    level: str
    why: str


class Extension:
    """One extension module and the level of its kernels that is in use, for the whole process.

    Every level gives the same bits.

    Args:
        name: of the module; a module that cannot be imported is no error.
    """

    def __init__(self, name: str) -> None:
        self._module: ModuleType | None = None
        self._why_not = ""
        try:
            self._module = importlib.import_module(name)
        except ImportError as exc:
            self._why_not = f"the native kernels were not built ({exc}); reinstall with a C compiler at hand"
        self._numbers: dict[str, int] = {} if self._module is None else dict(self._module.levels())
        self._level = self.levels()[-1]

    def levels(self) -> tuple[str, ...]:
        """The levels this machine can run, slowest first."""
        return (NUMPY, *self._numbers)

    def set_level(self, name: str) -> None:
        """Use the kernels of `name` from now on, in the whole process. For tests and benchmarks.

        Raises:
            InvalidInputError: `bad-argument` if this machine cannot run them.
        """
        if name not in self.levels():
            known = ", ".join(self.levels())
            raise InvalidInputError(
                f"no kernels of level {name!r} here; there are {known}", kind=ErrorKind.BAD_ARGUMENT
            )
        self._level = name

    def info(self) -> NativeInfo:
        """Say which kernels are in use."""
        if self._module is None:
            return NativeInfo(False, self._level, self._why_not)
        if self._level != self.levels()[-1]:
            return NativeInfo(True, self._level, "chosen by set_level()")
        return NativeInfo(True, self._level, "the best this processor can run")

    def kernels(self) -> tuple[ModuleType, int] | None:
        """The module and the level to call it with; None if numpy is to do the work."""
        if self._module is None or self._level == NUMPY:
            return None
        return self._module, self._numbers[self._level]
