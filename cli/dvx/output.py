"""Documents for scripts and lines for people."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from enum import Enum
from pathlib import PurePath
from typing import Any

import click

from dvx.terminal import colour, width
from dvx.text import fitted, iso

_LINES_AT_ONCE = 256


def jsonable(value: object) -> Any:
    """`value` as what JSON knows.

    Dataclasses become objects, fields called `time` ISO 8601 in UTC, numbers that are not finite null,
    bytes hexadecimal, anything else its text.
    """
    if value is None or (isinstance(value, bool | int | str) and not isinstance(value, Enum)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Enum):
        return jsonable(value.value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _field(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(v) for v in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return value.as_posix() if isinstance(value, PurePath) else str(value)


def _field(name: str, value: object) -> Any:
    return iso(value) if name == "time" and isinstance(value, int) else jsonable(value)


def print_json(document: Mapping[str, object]) -> None:
    """One JSON document on stdout: indented on a terminal, one line in a pipe."""
    indent = 2 if sys.stdout.isatty() else None
    text = json.dumps(jsonable(document), ensure_ascii=False, allow_nan=False, indent=indent)
    _write(text.encode("utf-8", "replace").decode() + "\n")


def print_lines(lines: Iterable[str]) -> None:
    """Lines on stdout, as they are made; on a terminal broken between words, colours where they belong."""
    waiting: list[str] = []
    columns = width(sys.stdout)
    for line in lines:
        waiting += [f"{part}\n" for part in ([line] if columns is None else fitted(line, columns))]
        if len(waiting) >= _LINES_AT_ONCE:
            _write("".join(waiting))
            waiting.clear()
    if waiting:
        _write("".join(waiting))


def _write(text: str) -> None:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    if encoding.lower().replace("-", "") != "utf8":
        text = text.encode(encoding, "replace").decode(encoding)
    else:
        text = text.encode("utf-8", "replace").decode()
    click.echo(text, nl=False, color=colour(sys.stdout))
