"""Exit statuses: which failure ends with which code. The one place that decides.

0 done · 1 error · 2 usage · 3 partly done · 10 no repository · 11 conflict · 12 integrity · 13 format
too new · 14 storage or network · 130 interrupted.
"""

from __future__ import annotations

from deltavcs import ErrorKind as Kind

OK = 0
ERROR = 1
USAGE = 2
PARTIAL = 3
NO_REPOSITORY = 10
CONFLICT = 11
INTEGRITY = 12
FORMAT_TOO_NEW = 13
STORAGE = 14
INTERRUPTED = 130
BROKEN_PIPE = 141

MEANINGS = {
    OK: "done",
    ERROR: "something is wrong with the input, or another error",
    USAGE: "the command line is malformed",
    PARTIAL: "done in part; what failed is named",
    NO_REPOSITORY: "there is no repository",
    CONFLICT: "someone else changed or holds it; running it again can succeed",
    INTEGRITY: "stored data is damaged",
    FORMAT_TOO_NEW: "the repository needs a newer deltavcs",
    STORAGE: "the disk or the network failed",
    INTERRUPTED: "interrupted (Ctrl-C)",
}

CODES: dict[Kind, int] = {
    Kind.NO_REPOSITORY: NO_REPOSITORY,
    Kind.UNKNOWN_REVISION: ERROR,
    Kind.UNKNOWN_OBJECT: ERROR,
    Kind.UNKNOWN_REF: ERROR,
    Kind.UNKNOWN_SOURCE: ERROR,
    Kind.UNKNOWN_TENSOR: ERROR,
    Kind.REPOSITORY_EXISTS: ERROR,
    Kind.REF_EXISTS: ERROR,
    Kind.OUTPUT_NOT_EMPTY: ERROR,
    Kind.BAD_REF_NAME: ERROR,
    Kind.BAD_REVISION: ERROR,
    Kind.AMBIGUOUS_REVISION: ERROR,
    Kind.BAD_EXPRESSION: ERROR,
    Kind.BAD_ARGUMENT: ERROR,
    Kind.BAD_CHECKPOINT: ERROR,
    Kind.BAD_PATH: ERROR,
    Kind.BAD_SQL: ERROR,
    Kind.BAD_TASK: ERROR,
    Kind.BASE_UNKNOWN: ERROR,
    Kind.AMBIGUOUS_DELTA: ERROR,
    Kind.INCOMPATIBLE: ERROR,
    Kind.PICKLE_REFUSED: ERROR,
    Kind.LIMIT_EXCEEDED: ERROR,
    Kind.REF_MOVED: CONFLICT,
    Kind.LOCKED: CONFLICT,
    Kind.SOURCE_CHANGED: CONFLICT,
    Kind.HASH_MISMATCH: INTEGRITY,
    Kind.TRUNCATED: INTEGRITY,
    Kind.CORRUPT: INTEGRITY,
    Kind.MISSING_OBJECT: INTEGRITY,
    Kind.MISSING_BASE: INTEGRITY,
    Kind.DELTA_CYCLE: INTEGRITY,
    Kind.BAD_HEADER: ERROR,
    Kind.BAD_OBJECT: INTEGRITY,
    Kind.BAD_PAYLOAD: INTEGRITY,
    Kind.UNSUPPORTED_VERSION: FORMAT_TOO_NEW,
    Kind.UNSUPPORTED_FEATURE: FORMAT_TOO_NEW,
    Kind.UNSUPPORTED_DTYPE: ERROR,
    Kind.DISK_FULL: STORAGE,
    Kind.PERMISSION_DENIED: STORAGE,
    Kind.IO: STORAGE,
    Kind.REMOTE: STORAGE,
    Kind.MISSING_PACKAGE: ERROR,
    Kind.COMMAND_FAILED: ERROR,
    Kind.BUG: ERROR,
    Kind.QUANTISED: ERROR,
}


def code_of(kind: Kind) -> int:
    """The exit status of a kind of error."""
    return CODES.get(kind, ERROR)
