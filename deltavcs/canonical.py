"""Canonical JSON (spec §2.1): one byte string per value on the way out, strict on the way in."""

from __future__ import annotations

import json
import math
from typing import Any

from deltavcs.errors import ErrorKind, FormatError

MAX_DEPTH = 32
_MAX_INT = 2**63


def encode_json(value: object) -> bytes:
    """Return the canonical encoding of a JSON value.

    Raises:
        ValueError: a number is not finite, or not a JSON value.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def decode_json(data: bytes) -> Any:
    """Parse JSON from an untrusted source.

    Raises:
        FormatError: `bad-object` for anything but UTF-8 JSON with unique keys, at most 32 levels deep,
            with finite numbers and integers of 64 bits.
    """
    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=_unique,
            parse_constant=_refuse,
            parse_int=_bounded_int,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as exc:
        raise FormatError(f"malformed JSON: {exc}", kind=ErrorKind.BAD_OBJECT) from exc
    _check_depth(value, MAX_DEPTH)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("duplicate key")
    return out


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is not allowed")


def _bounded_int(text: str) -> int:
    # Python refuses huge digit strings itself, but 64 bits is the contract.
    if len(text) > 20 or not -_MAX_INT <= (number := int(text)) < _MAX_INT:
        raise ValueError("integer out of range")
    return number


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("number out of range")
    return number


def _check_depth(value: object, left: int) -> None:
    if left < 0:
        raise FormatError("JSON nested too deeply", kind=ErrorKind.BAD_OBJECT)
    if isinstance(value, dict):
        for item in value.values():
            _check_depth(item, left - 1)
    elif isinstance(value, list):
        for item in value:
            _check_depth(item, left - 1)
