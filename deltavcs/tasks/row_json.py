"""JSON as rows hold it: strict, and plain about what is wrong.

`deltavcs.objects.canonical` is strict about what deltavcs itself writes; rows are other people's, so a number
may have more than 64 bits, and the message names the key or the number that has to be looked for.
"""

from __future__ import annotations

import json
import math
from typing import Any, Never

_MAX_DIGITS = 400


def parse_json(text: str) -> Any:
    """Parse JSON, strictly: no NaN, no number that overflows, no key twice.

    Raises:
        ValueError: the reason.
    """
    try:
        return json.loads(
            text,
            parse_constant=_refuse,
            parse_float=_finite,
            parse_int=_whole,
            object_pairs_hook=_unique,
        )
    except json.JSONDecodeError as exc:
        raise ValueError(f"malformed JSON: {exc}") from exc
    except RecursionError as exc:
        raise ValueError("malformed JSON: too many levels") from exc


def _refuse(constant: str) -> Never:
    raise ValueError(f"{constant} is not a number that JSON has")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"the number {text[:40]} is too large for a float")
    return value


def _whole(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits; the limit is {_MAX_DIGITS}")
    return int(text)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value: dict[str, object] = {}
    for key, item in pairs:
        if key in value:
            raise ValueError(f"the key {key[:40]!r} is there twice")
        value[key] = item
    return value
