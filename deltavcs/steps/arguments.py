"""Arguments that are easily given wrong from Python, checked before anything is done with them."""

from __future__ import annotations

from collections.abc import Iterable

from deltavcs.errors import ErrorKind, InvalidInputError


def several(given: Iterable[str], what: str) -> tuple[str, ...]:
    """A list of names or revisions. One text is refused: its letters would be taken one by one.

    Raises:
        InvalidInputError: `bad-argument`.
    """
    if isinstance(given, str):
        raise InvalidInputError(
            f"{what} takes a list of texts, not the text {given!r}", kind=ErrorKind.BAD_ARGUMENT
        )
    return tuple(given)


def check_count(given: int | None, what: str, *, least: int) -> None:
    """Refuse a number of things below `least`; None is no limit.

    Raises:
        InvalidInputError: `bad-argument`.
    """
    if given is not None and given < least:
        raise InvalidInputError(f"{what} is {given}, and {least} is the least", kind=ErrorKind.BAD_ARGUMENT)
