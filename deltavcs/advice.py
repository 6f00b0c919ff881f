"""What would help after an error, named. The words belong to whoever shows it."""

from __future__ import annotations

from enum import StrEnum


class Advice(StrEnum):
    """The next step, where an error's kind alone does not tell it. Append only.

    The facts that the words may name stand beside each.
    """

    FOLD_ADAPTER = "fold-adapter"  # revision
    NAME_BASE = "name-base"
    RESTORE_PACK = "restore-pack"
    RUN_AGAIN = "run-again"
    ARITHMETIC_DTYPES = "arithmetic-dtypes"  # dtypes
    FIND_AND_RESTORE = "find-and-restore"
    FREE_QUOTA = "free-quota"
    KEEP_SUBNORMALS = "keep-subnormals"
    KNOWN_DTYPES = "known-dtypes"  # dtypes
    RAISE_FILE_LIMIT = "raise-file-limit"
