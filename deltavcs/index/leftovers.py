"""Files of the index folder: what damage and killed processes leave. Callers hold the writers' lock."""

from __future__ import annotations

import shutil
from pathlib import Path

from deltavcs.storage import translate_os_errors

_KEPT_DAMAGED = 3


def wal_of(path: Path) -> Path:
    """DuckDB's write-ahead log of a database. It must never meet another database of the same name."""
    return path.with_name(path.name + ".wal")


def move_aside(path: Path) -> Path | None:
    """Rename a database to `.bad-N`, the last of which is overwritten, and drop its log."""
    if not path.exists():
        return None
    targets = [path.with_name(f"{path.name}.bad-{number}") for number in range(1, _KEPT_DAMAGED + 1)]
    target = next((t for t in targets if not t.exists()), targets[-1])
    with translate_os_errors("cannot move the lineage index aside"):
        wal_of(path).unlink(missing_ok=True)
        path.replace(target)
    return target


def sweep(path: Path) -> None:
    """Remove what killed rebuilds left."""
    for left in path.parent.glob("new-*.duckdb*"):
        if left.is_dir():  # what an update spilled
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
