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
    MERGE_METHODS = "merge-methods"  # methods
    MERGE_PARAMETER = "merge-parameter"  # parameter, meaning
    MERGE_PARAMETERS = "merge-parameters"  # parameters
    MERGE_PRODUCTS = "merge-products"
    EXACT_METHODS = "exact-methods"  # methods
    AVERAGE_WHOLE = "average-whole"
    COMPARE_ROWS = "compare-rows"
    COMPARE_TENSORS = "compare-tensors"
    RELAX_REGRESSION = "relax-regression"
    CHECK_ADAPTER = "check-adapter"
    CHECK_BASE = "check-base"
    GIVE_WEIGHTS = "give-weights"
    ALLOW_PICKLES = "allow-pickles"
    ONLY_TENSORS = "only-tensors"
    SAVE_STATE = "save-state"
    FINISH_DOWNLOAD = "finish-download"
    REMOVE_FILE = "remove-file"
    ONE_SHARD = "one-shard"
    NAME_DIRECTORY = "name-directory"
    REMOVE_LINK = "remove-link"
    MEND_AND_FORCE = "mend-and-force"
