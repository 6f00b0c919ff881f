"""Who acts, when and why."""

from __future__ import annotations

from dataclasses import dataclass

from deltavcs.errors import ErrorKind, InvalidInputError

_LIMIT = 2**63


@dataclass(frozen=True, slots=True)
class Signature:
    """Who moves a ref, when (microseconds since 1970-01-01 UTC, in 64 bits) and why: for the reflog.

    Raises:
        InvalidInputError: `bad-argument` for what the reflog could not give back.
    """

    author: str
    time: int
    message: str = ""

    def __post_init__(self) -> None:
        if not (isinstance(self.author, str) and isinstance(self.message, str)):
            raise InvalidInputError("author and message are text", kind=ErrorKind.BAD_ARGUMENT)
        if not (isinstance(self.time, int) and -_LIMIT <= self.time < _LIMIT):
            raise InvalidInputError(
                f"the time is {self.time!r}, and not a whole number of microseconds in 64 bits",
                kind=ErrorKind.BAD_ARGUMENT,
            )
