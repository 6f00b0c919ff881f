"""Numbers, times and names as people read them."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_SHORT = 12
_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
_MAX_US = 253_402_300_799_000_000


def size(n_bytes: int) -> str:
    """A number of bytes: `512 B`, `9.8 KiB`, `15.0 GiB`."""
    if n_bytes < 1024:
        return f"{n_bytes} B"
    value = float(n_bytes)
    unit = 0
    while value >= 1023.95 and unit < len(_UNITS) - 1:
        value /= 1024
        unit += 1
    return f"{value:.1f} {_UNITS[unit]}"


def percent(share: float | None) -> str:
    """A share of 1: `0%`, `<0.1%`, `12.3%`, `>99.9%`, `100%`; `-` for None."""
    if share is None:
        return "-"
    if share in (0, 1):
        return f"{share * 100:.0f}%"
    if 0 < share < 0.0005:
        return "<0.1%"
    if 0.9995 <= share < 1:
        return ">99.9%"
    return f"{share * 100:.1f}%"


def number(value: float | None, digits: int = 3) -> str:
    """A measured number with `digits` significant digits; `-` for None."""
    if value is None:
        return "-"
    return f"{value:#.{digits}g}".removesuffix(".") if value else "0"


def count(n: int, noun: str, plural: str | None = None) -> str:
    """`1 tensor`, `12 tensors`, `1,024 tensors`."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def ratio(raw: int, stored: int) -> str:
    """How many times smaller `stored` is than `raw`: `8.2 times smaller`, or nothing if it is not."""
    if not stored or raw < stored * 1.5:
        return ""
    times = raw / stored
    return f"{times:,.0f} times smaller" if times >= 20 else f"{times:.1f} times smaller"


def short(commit: str | None) -> str:
    """The beginning of an id."""
    return commit[:_SHORT] if commit else "-"


def when(time_us: int) -> str:
    """Local date and time of a commit."""
    found = _moment(time_us)
    return found.astimezone().strftime("%Y-%m-%d %H:%M") if found else "-"


def iso(time_us: int) -> str | None:
    """ISO 8601 in UTC with microseconds: for scripts."""
    found = _moment(time_us)
    return found.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if found else None


def _moment(time_us: int) -> datetime | None:
    if not 0 <= time_us <= _MAX_US:
        return None
    return datetime.fromtimestamp(time_us / 1e6, UTC).replace(microsecond=time_us % 1_000_000)


def plain(text: str) -> str:
    """`text` without control characters: what comes from a repository must not drive the terminal."""
    if text.isprintable():
        return text
    return "".join(_escape(c) if unicodedata.category(c) in _HIDDEN and c not in "\n\t" else c for c in text)


def line(text: str) -> str:
    """The first line of `text`, without control characters."""
    lines = text.strip().splitlines()
    return plain(lines[0]).replace("\t", " ") if lines else ""


def cell(text: str) -> str:
    """`text` on one line, without control characters: for a table."""
    return plain(text).replace("\n", "\\n").replace("\t", "\\t")


def join(names: Sequence[str], limit: int = 5) -> str:
    """`a, b, c and 12 more`."""
    shown = ", ".join(cell(n) for n in names[:limit])
    return shown + (f" and {len(names) - limit:,} more" if len(names) > limit else "")


def brief_json(value: object, width: int = 40) -> str:
    """A JSON value on one line, cut off where it is long; `not set` for None."""
    return "not set" if value is None else clip(json.dumps(value, ensure_ascii=False), width)


def wrapped(text: str, width: int | None) -> list[str]:
    """`text` in lines of at most `width` columns; one line in a pipe."""
    import textwrap

    return [text] if width is None else textwrap.wrap(text, min(width, 100))


def fitted(line: str, width: int) -> list[str]:
    """A line in lines of at most `width` columns, broken between words; a row of a table as it is.

    A command to go on with (`next: …`) stays whole too, since a line break would be copied with it.
    """
    from click import unstyle

    bare = unstyle(line)
    words = line.strip().split(" ")
    if width_of(bare) <= width or "" in words or bare.startswith("next:"):
        return [line]
    indent = " " * (len(bare) - len(bare.lstrip()))
    lines, used = [indent + words[0]], width_of(indent + unstyle(words[0]))
    for word in words[1:]:
        more = width_of(unstyle(word)) + 1
        if used + more <= width:
            lines[-1] += f" {word}"
            used += more
        else:
            lines.append(f"{indent}  {word}")
            used = len(indent) + 1 + more
    return lines


def width_of(text: str) -> int:
    """Columns that `text` takes on a terminal; no escape sequences."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def clip(text: str, width: int, *, middle: bool = False) -> str:
    """`text` in at most `width` columns, with `…` where something is left out."""
    if width_of(text) <= width:
        return text
    if width <= 1:
        return "…"[:width]
    if middle:
        left = (width - 1) * 3 // 5  # the end tells less: most tensors end in `.weight`
        return _take(text, left) + "…" + _take(text[::-1], width - 1 - left)[::-1]
    return _take(text, width - 1) + "…"


def _take(text: str, width: int) -> str:
    used, out = 0, []
    for c in text:
        used += width_of(c)
        if used > width:
            break
        out.append(c)
    return "".join(out)


def _escape(c: str) -> str:
    return f"\\x{ord(c):02x}" if ord(c) < 256 else f"\\u{ord(c):04x}"
