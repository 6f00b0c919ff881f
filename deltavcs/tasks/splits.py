"""Which of many files hold which split of a dataset, told by their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from deltavcs.tasks.record import bad_task
from deltavcs.tasks.rows import SUFFIXES

SPLIT_WORDS = {
    "train": frozenset({"train", "training"}),
    "validation": frozenset({"validation", "valid", "val", "dev"}),
    "test": frozenset({"test"}),
}


def split_of(name: str) -> str | None:
    """The split that a file name (or path) speaks of, the last mention winning; None if none."""
    for word in reversed(re.split(r"[/_.\-]+", name.lower())):
        for split, words in SPLIT_WORDS.items():
            if word in words:
                return split
    return None


def group_by_split(names: Sequence[str], *, config: str | None, prefix: str | None) -> dict[str, list[str]]:
    """Data files by split, sorted by name.

    Args:
        names: relative paths with `/`.
        config: the dataset's configuration: files below a folder of this name win over all others.
        prefix: files whose name starts with it (then `_`, `-` or `.`) win over all others.

    Returns:
        split → files. Files that name no split count as `train`, but only if no file names one.
    """
    files = sorted(name for name in names if PurePosixPath(name).suffix.lower() in SUFFIXES)
    if config is not None:
        files = [f for f in files if config in PurePosixPath(f).parent.parts] or files
    if prefix is not None:
        starts = tuple(prefix + mark for mark in "_-.")
        files = [f for f in files if PurePosixPath(f).name.startswith(starts)] or files
    groups: dict[str, list[str]] = {}
    for name in files:
        # The configuration's own name may hold a split word ("train_xl"); only what is below it counts.
        below = name.split(f"{config}/", 1)[-1] if config else name
        if (split := split_of(below)) is not None:
            groups.setdefault(split, []).append(name)
    return groups or ({"train": files} if files else {})


def choose_split(wanted: Sequence[str], have: Mapping[str, object], *, where: str) -> str:
    """The first of `wanted` that there is.

    Args:
        where: file or folder, for the message.

    Raises:
        InvalidInputError: `bad-task` if there is none.
    """
    for split in wanted:
        if split in have:
            return split
    raise bad_task(
        f"{where}: no rows for {' or '.join(wanted)} (there is: {', '.join(sorted(have)) or 'nothing'})"
    )
