"""Hints: what a user can do after an error. One table by kind, and one by advice, which says it more closely.

Whole sentences; `{name}` stands for a fact of the error.
"""

from __future__ import annotations

from deltavcs.advice import Advice
from deltavcs.errors import DeltaVCSError, ErrorKind

BY_ADVICE: dict[Advice, str] = {
    Advice.FOLD_ADAPTER: "Fold it in and commit the result: dvx checkout {revision} --merge-adapter -o DIR.",
    Advice.NAME_BASE: "Name it with --base REV.",
    Advice.RESTORE_PACK: "Restore the pack from a copy of the repository.",
    Advice.RUN_AGAIN: "Run the command again.",
    Advice.ADD_ROWS_FILE: "Download it elsewhere and use the file: dvx task add NAME --file rows.jsonl.",
    Advice.CHECK_OUT: "Check the checkpoint out to a directory instead.",
    Advice.CLOSE_QUOTE: 'Is there a closing quote? A quote inside a quoted cell is written twice: "".',
    Advice.CORRECT_CHAT_TEMPLATE: (
        "Correct chat_template.jinja, or chat_template in tokenizer_config.json, and commit it; without a"
        " chat template, prompts are plain text."
    ),
    Advice.KNOWN_TASKS: "There are: {tasks}. Your own: dvx task add NAME --file rows.jsonl.",
    Advice.LOG_IN: "Check the name; for gated and private models log in with 'hf auth login'.",
    Advice.MATCH_TOKENIZER: (
        "Does the tokenizer belong to this model? If tokens were added, resize the embedding to it."
    ),
    Advice.NAME_DEVICE: "Such as cpu, cuda, cuda:1 or mps.",
    Advice.NAME_TASK: "Use letters, digits, '.', '_' and '-', at most 100.",
    Advice.OTHER_DEVICE: "Run 'dvx doctor' to see what there is, or use --device cpu.",
    Advice.ROW_FILES: "Use one of {suffixes}.",
    Advice.SAVE_AS_UTF8: "Save the file as UTF-8.",
    Advice.SEPARATE_CELLS: (
        "A .csv file has commas between cells, a .tsv file has tabs; cells that hold one are quoted, as in"
        ' "a, b".'
    ),
    Advice.TASK_FILE_MOVED: "If it has moved: dvx task add {task} --file NEW --force.",
    Advice.TEMPLATED_TASK_FILE_MOVED: (
        "If it has moved: dvx task add {task} --file NEW --force, with its --prompt and --answer."
    ),
    Advice.TENSORS_ALONE: "Use checkout() for the tensors alone.",
    Advice.USE_LESS_MEMORY: "Use a smaller batch size, 'auto', a smaller dtype or another device.",
    Advice.WRITE_HUB_NAME: "Write hf://ORG/NAME or hf://ORG/NAME@REVISION.",
    Advice.WRITE_PLACEHOLDERS: "Write {{column}}; write {{{{ and }}}} for braces.",
}

BY_KIND: dict[ErrorKind, str | None] = {
    ErrorKind.NO_REPOSITORY: "Create one with 'dvx init', or name one with --repo DIR or DVX_REPO.",
    ErrorKind.UNKNOWN_REVISION: "Use 'dvx ls' to see the names there are.",
    ErrorKind.UNKNOWN_OBJECT: None,
    ErrorKind.UNKNOWN_REF: None,
    ErrorKind.UNKNOWN_SOURCE: None,
    ErrorKind.UNKNOWN_TENSOR: None,
    ErrorKind.REPOSITORY_EXISTS: None,
    ErrorKind.REF_EXISTS: None,
    ErrorKind.OUTPUT_NOT_EMPTY: "Choose another directory, or replace files in it with --force.",
    ErrorKind.BAD_REF_NAME: "Use letters, digits and . _ + - /, for example llama3.1/chat-v2.",
    ErrorKind.BAD_REVISION: None,
    ErrorKind.AMBIGUOUS_REVISION: "Give more digits.",
    ErrorKind.BAD_EXPRESSION: "Write it like: base + 0.8 * (tuned - base), with spaces around the operators.",
    ErrorKind.BAD_ARGUMENT: None,
    ErrorKind.BAD_CHECKPOINT: None,
    ErrorKind.BAD_PATH: None,
    ErrorKind.BAD_SQL: "The tables and views are listed in docs/sql.md; dvx sql 'SHOW TABLES' names them.",
    ErrorKind.BAD_TASK: None,
    ErrorKind.BASE_UNKNOWN: "Name it with --base REV.",
    ErrorKind.AMBIGUOUS_DELTA: "Choose with --delta NAME (repeatable), or take all of them with --all.",
    ErrorKind.INCOMPATIBLE: None,
    ErrorKind.PICKLE_REFUSED: None,
    ErrorKind.LIMIT_EXCEEDED: None,
    ErrorKind.REF_MOVED: "Look at the new history with 'dvx log', then run the command again.",
    ErrorKind.LOCKED: "Wait for the other command to finish.",
    ErrorKind.SOURCE_CHANGED: "Wait until the program that writes it is done, then run the command again.",
    ErrorKind.HASH_MISMATCH: "Run 'dvx fsck --full' to see all damage, and restore the pack from a copy.",
    ErrorKind.TRUNCATED: None,
    ErrorKind.CORRUPT: None,
    ErrorKind.MISSING_OBJECT: None,
    ErrorKind.MISSING_BASE: "Restore the missing pack from a copy of the repository.",
    ErrorKind.DELTA_CYCLE: None,
    ErrorKind.BAD_HEADER: None,
    ErrorKind.BAD_OBJECT: None,
    ErrorKind.BAD_PAYLOAD: None,
    ErrorKind.UNSUPPORTED_VERSION: "Upgrade deltavcs to a version that knows it.",
    ErrorKind.UNSUPPORTED_FEATURE: "Upgrade deltavcs to a version that knows it.",
    ErrorKind.UNSUPPORTED_DTYPE: None,
    ErrorKind.DISK_FULL: "Free some space and run the command again; nothing was changed.",
    ErrorKind.PERMISSION_DENIED: "Check the permissions of that path.",
    ErrorKind.IO: None,
    ErrorKind.REMOTE: "Check the network and run the command again.",
    ErrorKind.MISSING_PACKAGE: "Install it: pip install {package}.",
    ErrorKind.COMMAND_FAILED: None,
    ErrorKind.BUG: None,
}


def hint_of(error: DeltaVCSError) -> str | None:
    """The hint for an error: its advice in words, else what its kind says."""
    if error.hint is not None:  # until every room speaks of facts alone
        return error.hint
    words = BY_ADVICE[error.advice] if error.advice is not None else BY_KIND[error.kind]
    return words.format_map(_Facts(error.facts)) if words is not None else None


class _Facts(dict[str, str]):
    """Facts by name; one that is missing is left as the name that a user would fill in."""

    def __missing__(self, name: str) -> str:
        return name.upper()
