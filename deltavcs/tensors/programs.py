"""Postfix programs over stored elements: the native form of the operator `linear` (spec v1-derived §4.1)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TypeAlias

from deltavcs.errors import ErrorKind, FormatError
from deltavcs.tensors import tensor_kernels
from deltavcs.tensors.cast import Buffer, layout_of

Token: TypeAlias = int | str | tuple[str, float]
"""An input's number, `"+"`, `"-"`, `("*", s)` or `("/", s)`."""

_TOKEN = struct.Struct("<iid")
_PUSH = 0
_OPERATIONS = {"+": 1, "-": 2, "*": 3, "/": 4}


def run_native(
    program: Sequence[Token], inputs: Sequence[tuple[str, Buffer]], dtype: str, out: memoryview
) -> bool:
    """Evaluate a program in float64 and round the results, without arrays of float64 in between.

    Works in the default floating-point environment, whatever that of the thread.

    Args:
        program: parsed, valid for as many inputs.
        inputs: dtype and bytes of each; +0.0 follows an input that is shorter than the result.
        dtype: of the result.
        out: is filled with elements of the result; overlaps no input.

    Returns:
        False if there are no native kernels; then nothing was done.

    Raises:
        FormatError: `bad-payload` if the program does not fit the inputs, or a buffer does not hold whole
            elements; `unsupported-dtype`.
        InvalidInputError: `unsupported-dtype` for a dtype without arithmetic.
    """
    found = tensor_kernels.kernels()
    if found is None:
        return False
    module, level = found
    dtypes = bytes(_code(name) for name, _ in inputs)
    raw = tuple(buffer for _, buffer in inputs)
    try:
        module.linear(level, b"".join(map(_encode, program)), dtypes, raw, _code(dtype), out)
    except ValueError as exc:
        raise FormatError(str(exc), kind=ErrorKind.BAD_PAYLOAD) from exc
    return True


def _code(dtype: str) -> int:
    layout_of(dtype)
    return tensor_kernels.CODES[dtype]


def _encode(token: Token) -> bytes:
    if isinstance(token, int):
        return _TOKEN.pack(_PUSH, token, 0.0)
    if isinstance(token, tuple):
        return _TOKEN.pack(_OPERATIONS[token[0]], 0, token[1])
    return _TOKEN.pack(_OPERATIONS[token], 0, 0.0)
