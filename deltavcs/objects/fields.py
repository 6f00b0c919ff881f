"""Typed access to the fields of an untrusted JSON object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from deltavcs.errors import ErrorKind, FormatError
from deltavcs.oid import parse_oid


def bad(what: str) -> NoReturn:
    """Raise the `bad-object` error for `what`."""
    raise FormatError(f"malformed object: {what}", kind=ErrorKind.BAD_OBJECT)


def exact_keys(value: object, keys: frozenset[str], what: str) -> dict[str, Any]:
    """Return `value` if it is an object with exactly `keys`."""
    if not isinstance(value, dict) or value.keys() != keys:
        bad(f"{what} must have the fields {sorted(keys)}")
    return value


def text(value: object, what: str, *, max_bytes: int = 1 << 20) -> str:
    """Return `value` if it is a string of at most `max_bytes` UTF-8 bytes."""
    if not isinstance(value, str):
        bad(f"{what} must be a string")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        bad(f"{what} is not UTF-8")
    if size > max_bytes:
        bad(f"{what} is longer than {max_bytes} bytes")
    return value


def optional_text(value: object, what: str) -> str | None:
    """Return `value` if it is a string or null."""
    return None if value is None else text(value, what)


def integer(value: object, what: str, *, low: int = 0, high: int = 2**63 - 1) -> int:
    """Return `value` if it is an integer of the closed range."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        bad(f"{what} must be an integer from {low} to {high}")
    return value


def number(value: object, what: str) -> float:
    """Return `value` as a float if it is a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        bad(f"{what} must be a number")
    return float(value)


def boolean(value: object, what: str) -> bool:
    """Return `value` if it is true or false."""
    if not isinstance(value, bool):
        bad(f"{what} must be true or false")
    return value


def items(value: object, what: str, *, limit: int) -> list[Any]:
    """Return `value` if it is an array of at most `limit` items."""
    if not isinstance(value, list) or len(value) > limit:
        bad(f"{what} must be an array of at most {limit} items")
    return value


def mapping(value: object, what: str, *, limit: int) -> dict[str, Any]:
    """Return `value` if it is an object of at most `limit` keys."""
    if not isinstance(value, dict) or len(value) > limit:
        bad(f"{what} must be an object of at most {limit} keys")
    return value


def text_map(value: object, what: str) -> Mapping[str, str]:
    """Return `value` if it maps strings to strings."""
    return {text(k, what): text(v, what) for k, v in mapping(value, what, limit=10_000).items()}


def oid(value: object) -> str:
    """Return `value` if it is a full id."""
    return parse_oid(value)
