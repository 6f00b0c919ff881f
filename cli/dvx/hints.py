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
    Advice.MERGE_METHODS: "The methods are {methods}.",
    Advice.MERGE_PARAMETER: "Parameter {parameter}: {meaning}.",
    Advice.MERGE_PARAMETERS: "It takes {parameters}.",
    Advice.MERGE_PRODUCTS: "Merge them through their products with --exact, which allows other ranks.",
    Advice.EXACT_METHODS: "With --exact use one of: {methods}.",
    Advice.AVERAGE_WHOLE: "Use average or weighted, with adapters that all train it.",
    Advice.COMPARE_ROWS: "Use 'dvx diff A B --stat' to compare their tensors. Rows are padded (--vocab"
    " pad) only for embeddings and heads of a transfer.",
    Advice.COMPARE_TENSORS: "A merge needs the same tensors with the same shapes; compare with 'dvx diff A B"
    " --stat'.",
    Advice.RELAX_REGRESSION: "Take more rows, a smaller alpha or a ridge above 0.",
    Advice.CHECK_ADAPTER: "Is it an adapter?",
    Advice.CHECK_BASE: "Was it trained from another base? Name it with --base.",
    Advice.GIVE_WEIGHTS: "Give a directory with model.safetensors, or a .safetensors file.",
    Advice.ALLOW_PICKLES: "Prefer a safetensors version. To convert them with torch.load(weights_only=True),"
    " add --allow-pickle-weights.",
    Advice.ONLY_TENSORS: "Only files that hold nothing but tensors can be converted.",
    Advice.SAVE_STATE: "Save the model's state_dict only.",
    Advice.FINISH_DOWNLOAD: "Finish the download, or remove the index if it is left over.",
    Advice.REMOVE_FILE: "Remove it.",
    Advice.ONE_SHARD: "Each tensor may be in one shard only.",
    Advice.NAME_DIRECTORY: "Name a directory.",
    Advice.REMOVE_LINK: "Name a directory, or remove the link.",
    Advice.MEND_AND_FORCE: "Mend that and run the command again with --force.",
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
