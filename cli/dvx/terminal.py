"""What the other end of a stream can show."""

from __future__ import annotations

import os
from typing import TextIO

from dvx.text import fitted


def colour(stream: TextIO) -> bool:
    """True if `stream` should get colours: a terminal, unless NO_COLOR or TERM=dumb say otherwise."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def width(stream: TextIO) -> int | None:
    """Columns of the terminal, or None for a pipe or a file: those get whole lines."""
    if not stream.isatty():
        return None
    import shutil

    return max(20, shutil.get_terminal_size().columns)


def say(line: str, stream: TextIO) -> None:
    """A sentence on `stream`: on a terminal broken between words, in colours where they belong."""
    import click

    columns = width(stream)
    for part in [line] if columns is None else fitted(line, columns):
        click.echo(part, file=stream, color=colour(stream))


def shows_lines(stream: TextIO) -> bool:
    """True if `stream` can take the characters that graphs and trees are drawn with."""
    try:
        "│╭╯├◆○".encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
