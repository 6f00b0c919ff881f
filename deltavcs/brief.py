"""What a value shows of itself at a prompt: one short line, never a wall of text."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import Any

_LONGEST_TEXT = 60
_MOST_ITEMS = 3
_ID = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


def brief(value: Any) -> str:
    """The `repr` of a dataclass: ids by their beginning, long collections by their length.

    What is None, empty or as by default is left out.
    """
    shown = []
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        if not _says_nothing(item, field):
            shown.append(f"{field.name}={_shown(item)}")
    return f"{type(value).__name__}({', '.join(shown)})"


def _says_nothing(item: object, field: dataclasses.Field[Any]) -> bool:
    if item is None or (isinstance(item, Collection) and not item):
        return True
    return field.default is not dataclasses.MISSING and bool(item == field.default)


def _shown(item: object) -> str:
    if isinstance(item, str):
        text = _ID.sub(r"\1…", item)
        return repr(str(text) if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…")
    if isinstance(item, float):
        return f"{item:.6g}"
    if isinstance(item, Mapping):
        few = len(item) <= _MOST_ITEMS and all(map(_is_plain, item.values()))
        return "{" + ", ".join(f"{k!r}: {_shown(v)}" for k, v in item.items()) + "}" if few else _count(item)
    if isinstance(item, Collection):
        few = len(item) <= _MOST_ITEMS and all(map(_is_plain, item))
        return "[" + ", ".join(map(_shown, item)) + "]" if few else _count(item)
    if callable(item) and hasattr(item, "__name__"):
        return str(item.__name__)
    return repr(item)


def _is_plain(item: object) -> bool:
    return item is None or isinstance(item, str | int | float)


def _count(items: Collection[object]) -> str:
    """How many, and of what, if that can be said."""
    values = items.values() if isinstance(items, Mapping) else items
    kinds = {type(item).__name__ for item in values if dataclasses.is_dataclass(item)}
    return f"<{len(items)} {kinds.pop()}>" if len(kinds) == 1 else f"<{len(items)}>"
