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
    Advice.ARITHMETIC_DTYPES: "These dtypes can be added and scaled: {dtypes}.",
    Advice.FIND_AND_RESTORE: "Run 'dvx fsck --full' to see all damage, and restore the pack from a copy.",
    Advice.FREE_QUOTA: "Free some space of your quota and run the command again; nothing was changed.",
    Advice.KEEP_SUBNORMALS: "Call torch.set_flush_denormal(False).",
    Advice.KNOWN_DTYPES: "The known dtypes are {dtypes}.",
    Advice.RAISE_FILE_LIMIT: (
        "The file system or a limit of the shell ('ulimit -f') allows no file of that size."
    ),
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
