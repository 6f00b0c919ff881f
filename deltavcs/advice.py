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
    ADD_ROWS_FILE = "add-rows-file"
    CHECK_OUT = "check-out"
    CLOSE_QUOTE = "close-quote"
    CORRECT_CHAT_TEMPLATE = "correct-chat-template"
    KNOWN_TASKS = "known-tasks"  # tasks
    LOG_IN = "log-in"
    MATCH_TOKENIZER = "match-tokenizer"
    NAME_DEVICE = "name-device"
    NAME_TASK = "name-task"
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
