"""Lines of text files, each within a limit and in UTF-8, so that whatever is wrong has a line number."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deltavcs.advice import Advice
from deltavcs.tasks.record import bad_task


@dataclass(frozen=True, slots=True)
class RowLimits:
    """What is refused before it is read.

    Attributes:
        max_rows: rows per split.
        max_row_bytes: bytes of one line, and of one CSV row that goes over several.
        max_file_bytes: bytes of one file.
    """

    max_rows: int = 2_000_000
    max_row_bytes: int = 4 << 20
    max_file_bytes: int = 16 << 30


DEFAULT_LIMITS = RowLimits()


DEFAULT_LIMITS = RowLimits()


def read_lines(path: Path, limits: RowLimits) -> Iterator[tuple[int, str]]:
    """Yield number (from 1) and text, with its line end, of every line; a byte order mark is skipped.

    Raises:
        InvalidInputError: `bad-task` naming the line that is too long or not UTF-8.
    """
    most = limits.max_row_bytes
    try:
        with path.open("rb") as file:
            number = 0
            while data := file.readline(most + len("\r\n")):
                number += 1
                if len(data.rstrip(b"\r\n")) > most:
                    raise bad_task(
                        f"{path}:{number}: the line is longer than {most} bytes, which is the limit"
                    )
                yield (
                    number,
                    _decoded(data.removeprefix(codecs.BOM_UTF8) if number == 1 else data, path, number),
                )
    except OSError as exc:
        raise bad_task(f"{path}: cannot be read: {exc.strerror or exc}") from exc


def _decoded(data: bytes, path: Path, number: int) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise bad_task(
            f"{path}:{number}: not UTF-8: byte {exc.start + 1} of the line is 0x{data[exc.start]:02x}",
            advice=Advice.SAVE_AS_UTF8,
        ) from exc
