"""JSON: one byte string per value on the way out (spec §2.1), strict on the way in."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from typing import Any, Never

from deltavcs.errors import ErrorKind, FormatError

MAX_DEPTH = 32
MAX_DIGITS = 400
_MAX_INT = 2**63


class RepeatedKey(ValueError):
    """An object of a JSON text has a key twice."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the key {key[:40]!r} is there twice")
        self.key = key


def encode_json(value: object, *, lone_surrogates: bool = False) -> bytes:
    """Return the canonical encoding of a JSON value.

    Args:
        lone_surrogates: encode halves of surrogate pairs too, which UTF-8 may not hold: for bytes that are
            hashed and not kept.

    Raises:
        ValueError: a number is not finite, a text is not UTF-8, or it is not a JSON value.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "surrogatepass" if lone_surrogates else "strict")


def parse_json(text: str, *, repeated: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Parse JSON from an untrusted source, strictly.

    Args:
        repeated: makes an object of its pairs where a key may be there twice; None to refuse that.

    Raises:
        ValueError: the reason; `json.JSONDecodeError` where it is no JSON, `RepeatedKey` for a key that an
            object has twice. Also for NaN, a number too large for a float64, an integer of over 400 digits,
            and too many levels.
    """
    try:
        return json.loads(
            text,
            object_pairs_hook=repeated or _unique,
            parse_constant=_refuse,
            parse_int=_whole,
            parse_float=_finite,
        )
    except RecursionError as exc:
        raise ValueError("too many levels") from exc


def decode_json(data: bytes) -> Any:
    """Parse the JSON of a stored object.

    Raises:
        FormatError: `bad-object` for anything but UTF-8 JSON with unique keys, at most 32 levels deep,
            with finite numbers and integers of 64 bits.
    """
    try:
        value = parse_json(data.decode())
    except ValueError as exc:
        raise FormatError(f"malformed JSON: {exc}", kind=ErrorKind.BAD_OBJECT) from exc
    _check(value, MAX_DEPTH)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise RepeatedKey(Counter(key for key, _ in pairs).most_common(1)[0][0])
    return out


def _refuse(constant: str) -> Never:
    raise ValueError(f"{constant} is not a number that JSON has")


def _whole(text: str) -> int:
    # Before `int`, which takes time in proportion to the square of the length.
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits; the limit is {MAX_DIGITS}")
    return int(text)


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"the number {text[:40]} is too large for a float")
    return number


def _check(value: object, levels: int) -> None:
    """Refuse values that are nested more than `levels` deep, and integers of more than 64 bits."""
    if not levels and isinstance(value, dict | list):
        raise FormatError("JSON nested too deeply", kind=ErrorKind.BAD_OBJECT)
    if isinstance(value, dict):
        for item in value.values():
            _check(item, levels - 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, levels - 1)
    elif isinstance(value, int) and not -_MAX_INT <= value < _MAX_INT:
        raise FormatError("malformed JSON: integer out of range", kind=ErrorKind.BAD_OBJECT)
