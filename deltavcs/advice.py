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
    AVOID_FOLDER = "avoid-folder"
    COUNT_STEPS = "count-steps"  # name
    FIND_DAMAGE = "find-damage"
    FIND_MISSING = "find-missing"
    IMPORT_FIRST = "import-first"
    NAMES_OR_EXPRESSION = "names-or-expression"
    READ_REFLOG = "read-reflog"
    REBUILD_INDEX = "rebuild-index"
    RESTORE_FILE = "restore-file"
    SEE_HISTORY = "see-history"  # revision
    SIMILAR_NAMES = "similar-names"  # similar
    SIMILAR_NAMES_OR_EXPRESSION = "similar-names-or-expression"  # similar
