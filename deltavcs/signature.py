"""Who acts, when and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Signature:
    """Who moves a ref, when (microseconds since 1970-01-01 UTC) and why: for the reflog."""

    author: str
    time: int
    message: str = ""
