"""Which names a ref may have (spec §6.1)."""

from __future__ import annotations

import unicodedata

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.oid import is_oid

MAX_NAME_BYTES = 255
_FORBIDDEN = set("~^:?*[]\\()\"'<>|")


def check_name(name: str) -> str:
    """Return `name` if a branch or tag may be called so.

    Raises:
        InvalidInputError: `bad-ref-name`, with the rule that it breaks.
    """
    why = _broken_rule(name)
    if why:
        raise InvalidInputError(
            f"{name!r} cannot be a name: it {why}",
            kind=ErrorKind.BAD_REF_NAME,
        )
    return name


def is_readable_name(name: str, *, keyed: bool = False) -> bool:
    """True if a ref that is there already may be called so.

    Args:
        keyed: names of its folder are ids.
    """
    return is_oid(name) if keyed else _broken_rule(name) is None


def _broken_rule(name: str) -> str | None:
    if not name or len(name.encode(errors="replace")) > MAX_NAME_BYTES:
        return f"must be 1 to {MAX_NAME_BYTES} bytes long"
    if name == "@" or "@{" in name or ".." in name:
        return "must not be '@' or hold '@{' or '..'"
    bad = sorted({c for c in name if c in _FORBIDDEN})
    if bad:
        return f"holds {' '.join(bad)}"
    if any(c.isspace() or unicodedata.category(c) in ("Cc", "Cs", "Cf") for c in name):
        return "holds white space or a control character"
    for part in name.split("/"):
        if not part:
            return "has an empty part"
        if part[0] in ".-" or part.endswith((".", ".lock")):
            return f"has the part {part!r}, which begins with '.' or '-' or ends with '.' or '.lock'"
    if is_oid(name):
        return "looks like a commit id"
    return None


def branch_ref(name: str) -> str:
    """Full ref name of a branch. Raises as `check_name` does."""
    return f"refs/heads/{check_name(name)}"


def tag_ref(name: str) -> str:
    """Full ref name of a tag. Raises as `check_name` does."""
    return f"refs/tags/{check_name(name)}"
