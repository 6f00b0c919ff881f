"""Parameters of the derived operators, from what is stored (spec v1-derived §3).

They come from stored objects, so they are checked as hostile input before anything is computed. Scalars are
hexadecimal floating-point strings as `float.hex` writes them: exact, and one spelling for every value.

    linear      {"program": [...]}
    ties        {"lambda": h, "thresholds": [h…], "weights": [h…]}
    dare        {"keep": [n…], "lambda": h, "scales": [h…], "seed": n, "tensor": s}
    dare_ties   {"keep": [n…], "lambda": h, "scales": [h…], "seed": n, "tensor": s, "weights": [h…]}

Inputs of every operator but `linear` are the base, then the fine-tunes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from deltavcs.errors import ErrorKind, FormatError
from deltavcs.operators.equations import Dare, DareTies, Linear, Masks, Ties
from deltavcs.operators.limits import (
    MAX_INPUTS,
    MAX_NAME_BYTES,
    MAX_PROGRAM_TOKENS,
    MAX_SCALAR_CHARS,
    MAX_SEED,
    MAX_STACK,
)
from deltavcs.operators.mask import KEEP_ALL, mask_key
from deltavcs.tensors.programs import Token

Params: TypeAlias = Mapping[str, object]
Operation: TypeAlias = Linear | Ties | Dare | DareTies


def hex_scalar(value: float) -> str:
    """Return the one spelling of a finite float64 in parameters.

    Raises:
        FormatError: `bad-object` for infinities and NaN.
    """
    number = float(value)
    if not math.isfinite(number):
        raise _bad(f"a parameter must be finite, not {number}")
    return number.hex()


def encode_program(program: Sequence[Token]) -> dict[str, object]:
    """Return the parameters of `linear` for a postfix program; see `deltavcs.operators.equations.Linear`.

    Raises:
        FormatError: `bad-object` for scalars that are not finite.
    """
    return {"program": [[t[0], hex_scalar(t[1])] if isinstance(t, tuple) else t for t in program]}


def parse(op: str, params: Params, n_inputs: int) -> Operation:
    """Check an operator and its parameters and return them ready to run.

    Args:
        op: name of the operator.
        params: as stored; nothing about it is trusted.
        n_inputs: how many inputs the derived tensor has.

    Raises:
        FormatError: `unsupported-feature` for an unknown operator, `bad-object` for anything else.
    """
    if not isinstance(op, str):
        raise _bad("the name of a derived operator is not text")
    parser = OPERATORS.get(op)
    if parser is None:
        raise FormatError(f"unknown derived operator {op[:80]!r}", kind=ErrorKind.UNSUPPORTED_FEATURE)
    if not isinstance(params, Mapping):
        raise _bad(f"the parameters of {op} are not an object")
    _check_count("inputs", n_inputs, 1, MAX_INPUTS)
    return parser(params, n_inputs)


def _parse_linear(params: Params, n_inputs: int) -> Linear:
    _check_keys(params, {"program"})
    stored = params["program"]
    if not isinstance(stored, (list, tuple)) or not 1 <= len(stored) <= MAX_PROGRAM_TOKENS:
        raise _bad(f"a program is a list of 1 to {MAX_PROGRAM_TOKENS} tokens")
    program: list[Token] = []
    depth = 0
    for position, item in enumerate(stored):
        token, needed, change = _parse_token(item, n_inputs, position)
        if depth < needed:
            raise _bad(f"program token {position} finds {depth} values on the stack")
        depth += change
        if depth > MAX_STACK:
            raise _bad(f"a program may keep {MAX_STACK} values, token {position} adds one more")
        program.append(token)
    if depth != 1:
        raise _bad(f"a program leaves one value, this one {depth}")
    return Linear(tuple(program))


def _parse_token(item: object, n_inputs: int, position: int) -> tuple[Token, int, int]:
    """Return the token, how many values it needs on the stack and by how many it grows it."""
    if isinstance(item, int) and not isinstance(item, bool):
        if not 0 <= item < n_inputs:
            raise _bad(f"program token {position} names an input outside 0 to {n_inputs - 1}")
        return item, 0, 1
    if isinstance(item, str) and item in ("+", "-"):
        return item, 2, -1
    if isinstance(item, (list, tuple)) and len(item) == 2 and item[0] in ("*", "/"):
        scalar = _scalar(f"program token {position}", item[1])
        if item[0] == "/" and scalar == 0.0:
            raise _bad(f"program token {position} divides by zero")
        return (item[0], scalar), 1, 0
    raise _bad(f"program token {position} is not one of integer, '+', '-', ['*', s], ['/', s]")


def _parse_ties(params: Params, n_inputs: int) -> Ties:
    _check_keys(params, {"lambda", "thresholds", "weights"})
    n_tuned = _n_tuned("ties", n_inputs)
    return Ties(
        _scalars("thresholds", params["thresholds"], n_tuned, least=0.0),
        _scalars("weights", params["weights"], n_tuned, least=0.0),
        _scalar("lambda", params["lambda"]),
    )


def _parse_dare(params: Params, n_inputs: int) -> Dare:
    _check_keys(params, {"keep", "lambda", "scales", "seed", "tensor"})
    masks = _parse_masks(params, _n_tuned("dare", n_inputs))
    return Dare(masks, _scalar("lambda", params["lambda"]))


def _parse_dare_ties(params: Params, n_inputs: int) -> DareTies:
    _check_keys(params, {"keep", "lambda", "scales", "seed", "tensor", "weights"})
    n_tuned = _n_tuned("dare_ties", n_inputs)
    weights = _scalars("weights", params["weights"], n_tuned, least=0.0)
    return DareTies(_parse_masks(params, n_tuned), weights, _scalar("lambda", params["lambda"]))


def _parse_masks(params: Params, n_tuned: int) -> Masks:
    seed = _check_count("seed", params["seed"], 0, MAX_SEED)
    name = params["tensor"]
    if not isinstance(name, str) or len(name) > MAX_NAME_BYTES:
        raise _bad(f"tensor is a name of at most {MAX_NAME_BYTES} bytes")
    try:
        encoded = name.encode()
    except UnicodeEncodeError as exc:
        raise _bad("tensor is not a name in UTF-8") from exc
    if len(encoded) > MAX_NAME_BYTES:
        raise _bad(f"tensor is a name of at most {MAX_NAME_BYTES} bytes")
    stored = params["keep"]
    if not isinstance(stored, (list, tuple)) or len(stored) != n_tuned:
        raise _bad(f"keep is a list of {n_tuned} counts")
    keep = tuple(_check_count("keep", count, 0, KEEP_ALL) for count in stored)
    scales = _scalars("scales", params["scales"], n_tuned)
    return Masks(tuple(mask_key(seed, name, stream) for stream in range(n_tuned)), keep, scales)


def _n_tuned(op: str, n_inputs: int) -> int:
    if n_inputs < 2:
        raise _bad(f"{op} takes a base and at least one fine-tune")
    return n_inputs - 1


def _check_keys(params: Params, names: set[str]) -> None:
    if len(params) != len(names) or not names.issuperset(params):
        raise _bad("the parameters must be exactly " + ", ".join(sorted(names)))


def _check_count(name: str, value: object, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _bad(f"{name} is an integer from {least} to {most}")
    return value


def _scalars(name: str, stored: object, count: int, least: float = -math.inf) -> tuple[float, ...]:
    if not isinstance(stored, (list, tuple)) or len(stored) != count:
        raise _bad(f"{name} is a list of {count} scalars")
    return tuple(_scalar(name, item, least) for item in stored)


def _scalar(name: str, text: object, least: float = -math.inf) -> float:
    """Read one scalar; only the spelling of `float.hex` is accepted."""
    if not isinstance(text, str) or len(text) > MAX_SCALAR_CHARS:
        raise _bad(f"{name} is not a hexadecimal float")
    try:
        value = float.fromhex(text)
    except (ValueError, OverflowError) as exc:
        raise _bad(f"{name} is not a hexadecimal float: {text!r}") from exc
    if not math.isfinite(value) or value.hex() != text:
        raise _bad(f"{name} is not a finite float as float.hex() writes it: {text!r}")
    if value < least:
        raise _bad(f"{name} is at least {least}, not {text}")
    return value


def _bad(message: str) -> FormatError:
    return FormatError(message, kind=ErrorKind.BAD_OBJECT)


OPERATORS: dict[str, Callable[[Params, int], Operation]] = {
    "linear": _parse_linear,
    "ties": _parse_ties,
    "dare": _parse_dare,
    "dare_ties": _parse_dare_ties,
}
"""By the name of each operator, as stored, what reads its parameters. Append only: repositories hold them."""
