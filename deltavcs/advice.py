"""What would help after an error, named. The words belong to whoever shows it."""

from __future__ import annotations

from enum import StrEnum


class Advice(StrEnum):
    """The next step, where an error's kind alone does not tell it. Append only.

    The facts that the words may name stand beside each.
    """

    FOLD_ADAPTER = "fold-adapter"  # revision
    RESTORE_PACK = "restore-pack"
    RUN_AGAIN = "run-again"
    CHANGE_DIRECTORY = "change-directory"
    UPGRADE_TO_WRITE = "upgrade-to-write"
    COMMIT_ADAPTER = "commit-adapter"
    COMMIT_FINETUNE_FIRST = "commit-finetune-first"  # base
    CHECK_QUOTES = "check-quotes"
    DELETE_REF_FIRST = "delete-ref-first"  # ref_kind, name
    FEWER_CHECKPOINTS = "fewer-checkpoints"
    IMPORT_BASE_FIRST = "import-base-first"
    INSTALL_COMPILER = "install-compiler"
    INSTALL_PACKAGE = "install-package"  # package
    LEAVE_OUT_EXACT = "leave-out-exact"
    LEAVE_OUT_FOLDING = "leave-out-folding"
    LEAVE_OUT_NAME = "leave-out-name"
    LIST_REFS = "list-refs"  # ref_kind
    MERGE_IN_COMMAND = "merge-in-command"
    METHODS_FOR_ADAPTERS = "methods-for-adapters"
    NAME_BASES = "name-bases"
    NAME_BASES_ONCE = "name-bases-once"
    NAME_BASE_OF_RESULT = "name-base-of-result"
    NAME_BASE_OR_AVERAGE = "name-base-or-average"
    NAME_FINETUNE = "name-finetune"
    NAME_OR_IMPORT_BASE = "name-or-import-base"
    NAME_OUTSIDE = "name-outside"
    NAME_RIGHT_BASE = "name-right-base"
    NAME_TASK = "name-task"
    NO_FOLDER_OF_ANOTHER = "no-folder-of-another"
    ONE_OF = "one-of"  # choices
    ONE_TASK_OR_EACH = "one-task-or-each"
    OTHER_NAME_OR_REPEAT = "other-name-or-repeat"
    PARENT_BY_ITSELF = "parent-by-itself"
    RENAME_OR_RETYPE = "rename-or-retype"
    REPLACE_TASK = "replace-task"
    RUN_FSCK = "run-fsck"
    RESTORE_REFS = "restore-refs"
    TAG_BASE = "tag-base"
    TRAINING_COMMAND = "training-command"
    TRANSFER_FROM_ITSELF = "transfer-from-itself"  # delta
    WIDEN_SELECTION = "widen-selection"
    WRITE_PARENT = "write-parent"
    WRITE_TO_OUT = "write-to-out"
    AVOID_FOLDER = "avoid-folder"
    COUNT_STEPS = "count-steps"  # name
    FIND_MISSING = "find-missing"
    IMPORT_FIRST = "import-first"
    NAMES_OR_EXPRESSION = "names-or-expression"
    READ_REFLOG = "read-reflog"
    REBUILD_INDEX = "rebuild-index"
    PERMIT_INDEX = "permit-index"
    FREE_SPACE_FOR_INDEX = "free-space-for-index"
    WAIT_FOR_INDEX = "wait-for-index"
    NARROW_QUERY = "narrow-query"
    ONE_BY_ONE = "one-by-one"
    CHOOSE_ONE_KIND = "choose-one-kind"
    RESTORE_FILE = "restore-file"
    SEE_HISTORY = "see-history"  # revision
    SIMILAR_NAMES = "similar-names"  # similar
    SIMILAR_NAMES_OR_EXPRESSION = "similar-names-or-expression"  # similar
    ADD_ROWS_FILE = "add-rows-file"
    CHECK_OUT = "check-out"
    CLOSE_QUOTE = "close-quote"
    CORRECT_CHAT_TEMPLATE = "correct-chat-template"
    KNOWN_TASKS = "known-tasks"  # tasks
    LOG_IN = "log-in"
    MATCH_TOKENIZER = "match-tokenizer"
    NAME_DEVICE = "name-device"
    TASK_NAMES = "task-names"
    OTHER_DEVICE = "other-device"
    ROW_FILES = "row-files"  # suffixes
    SAVE_AS_UTF8 = "save-as-utf8"
    SEPARATE_CELLS = "separate-cells"
    TASK_FILE_MOVED = "task-file-moved"  # task
    TEMPLATED_TASK_FILE_MOVED = "templated-task-file-moved"  # task
    TENSORS_ALONE = "tensors-alone"
    USE_LESS_MEMORY = "use-less-memory"
    WRITE_HUB_NAME = "write-hub-name"
    WRITE_PLACEHOLDERS = "write-placeholders"
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
    ONE_SHARD = "one-shard"
    NAME_DIRECTORY = "name-directory"
    REMOVE_LINK = "remove-link"
    MEND_AND_FORCE = "mend-and-force"
    ARITHMETIC_DTYPES = "arithmetic-dtypes"  # dtypes
    FIND_AND_RESTORE = "find-and-restore"
    FREE_QUOTA = "free-quota"
    KEEP_SUBNORMALS = "keep-subnormals"
    KNOWN_DTYPES = "known-dtypes"  # dtypes
    RAISE_FILE_LIMIT = "raise-file-limit"
    CHECK_OUT_DEQUANTIZED = "check-out-dequantized"  # revision
    DEQUANTIZE = "dequantize"  # revision
    FOLD_UNQUANTISED = "fold-unquantised"  # revision
    USE_UNQUANTISED = "use-unquantised"  # revision
    SAVE_ONE_STATE = "save-one-state"
    SAVE_PLAIN_TENSORS = "save-plain-tensors"
    SAVE_STATE_DICT = "save-state-dict"
    RENAME_TENSOR = "rename-tensor"
    FETCH_POINTERS = "fetch-pointers"
    MEND_OR_EXCLUDE = "mend-or-exclude"  # path
    NAME_FOLDER = "name-folder"  # path
    SAVE_ADAPTER_AGAIN = "save-adapter-again"
    COMMIT_FOLDER = "commit-folder"  # folder
