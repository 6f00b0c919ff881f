"""Records of CSV and TSV files (RFC 4180); nothing about a file is guessed from its other rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from deltavcs.advice import Advice
from deltavcs.tasks.record import BadRow, bad_task
from deltavcs.tasks.row_lines import RowLimits, read_lines


def read_csv_records(path: Path, limits: RowLimits, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line where it starts and the cells of every record, the header first.

    Raises:
        InvalidInputError: `bad-task` naming the line, for quotes and lines that do not end where they should.
    """
    record, start, size = _CsvRecord(delimiter), 0, 0
    for number, line in read_lines(path, limits):
        if record.open is None:
            if not line.strip("\r\n"):
                continue
            record, start, size = _CsvRecord(delimiter), number, 0
        size += len(line.encode())
        if number > start and size > limits.max_row_bytes:
            raise bad_task(
                f"{path}:{start}: a quoted cell is still open after {limits.max_row_bytes} bytes, which is"
                " the limit of a row",
                advice=Advice.CLOSE_QUOTE,
            )
        try:
            record.feed(line)
        except BadRow as exc:
            raise bad_task(f"{path}:{number}: {exc}") from exc
        if record.open is None:
            yield start, record.cells
    if record.open is not None:
        raise bad_task(
            f"{path}:{start}: a quoted cell is never closed",
            advice=Advice.CLOSE_QUOTE,
        )


_QUOTED = re.compile(r'([^"]*+(?:""[^"]*+)*+)"')


class _CsvRecord:
    """One record (RFC 4180), fed line by line. `csv` would do if its limit of a cell were not process-wide.

    Attributes:
        cells: those that are complete.
        open: what there is of a quoted cell that goes on in the next line; None if there is none.
    """

    def __init__(self, delimiter: str) -> None:
        self.cells: list[str] = []
        self.open: list[str] | None = None
        self._delimiter = delimiter
        self._bare = re.compile(rf"[^{delimiter}\r\n]*+")

    def feed(self, line: str) -> None:
        """Take the next line, with its line end. Raises BadRow for what is neither a cell nor a delimiter."""
        at, stop = 0, len(line.removesuffix("\n").removesuffix("\r"))
        while (end := self._feed_cell(line, at)) is not None and end < stop:
            if line[end] == "\r":
                raise BadRow("a carriage return that ends no line and is not in quotes")
            if line[end] != self._delimiter:
                raise BadRow(f"{line[end : min(stop, end + 20)]!r} follows a closing quote")
            at = end + 1

    def _feed_cell(self, line: str, at: int) -> int | None:
        """Take one cell; give where it ends, or None if that is not in this line."""
        if self.open is None and not line.startswith('"', at):
            found = self._bare.match(line, at)
            assert found is not None  # matches the empty text
            self.cells.append(found[0])
            return found.end()
        if self.open is None:
            self.open, at = [], at + 1
        found = _QUOTED.match(line, at)
        if found is None:
            self.open.append(line[at:])
            return None
        self.cells.append("".join([*self.open, found[1]]).replace('""', '"'))
        self.open = None
        return found.end()
