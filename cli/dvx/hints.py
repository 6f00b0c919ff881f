"""Hints: what a user can do after an error. One table by kind, and one by advice, which says it more closely.

Whole sentences; `{name}` stands for a fact of the error.
"""

from __future__ import annotations

from deltavcs import Advice, DeltaVCSError, ErrorKind

_EXPRESSION = "An expression looks like: base + 0.5 * (tuned - base)."
_SIMILAR = "Did you mean {similar}?"
_NAMES = "Use 'dvx ls' to see the names there are."

BY_ADVICE: dict[Advice, str] = {
    Advice.FOLD_ADAPTER: "Fold the adapter in and commit the result: dvx checkout {revision} --merge-adapter -o DIR",
    Advice.RESTORE_PACK: "Restore the pack from a copy of the repository.",
    Advice.RUN_AGAIN: "Run the command again.",
    Advice.CHANGE_DIRECTORY: "Change to one that does.",
    Advice.UPGRADE_TO_WRITE: "Upgrade deltavcs to a version that knows them. Reading still works.",
    Advice.COMMIT_ADAPTER: "Import its base first, then commit it: dvx commit DIR --base NAME",
    Advice.COMMIT_FINETUNE_FIRST: "Commit one first: dvx commit DIR --base {base}",
    Advice.CHECK_QUOTES: "Check its quotes.",
    Advice.DELETE_REF_FIRST: "Choose another name, or delete it first: dvx {ref_kind} --delete {name}",
    Advice.FEWER_CHECKPOINTS: "Ask for fewer with --k, or see 'dvx rank' for what stands in the way.",
    Advice.IMPORT_BASE_FIRST: "Import the base first: dvx import DIR --as NAME",
    Advice.INSTALL_COMPILER: "Install a C compiler and run: pip install --force-reinstall --no-deps deltavcs",
    Advice.INSTALL_PACKAGE: "Install it: pip install {package}",
    Advice.LEAVE_OUT_EXACT: "These are whole checkpoints: leave --exact and --rank out.",
    Advice.LEAVE_OUT_FOLDING: "Leave --merge-adapter out; its weights are whole.",
    Advice.LEAVE_OUT_NAME: "Leave --as out; the results are called TO+DELTA.",
    Advice.LIST_REFS: "Use 'dvx {ref_kind}' to list them.",
    Advice.MERGE_IN_COMMAND: "Merge the adapter at the end of the command, for example with merge_and_unload().",
    Advice.METHODS_FOR_ADAPTERS: "Use another method, or fold the adapters in and merge the results.",
    Advice.NAME_BASES: "Name some with --bases.",
    Advice.NAME_BASES_ONCE: "Name every version of the base once, oldest first.",
    Advice.NAME_BASE_OF_RESULT: "Carry one over to the other base with 'dvx transfer'; or name the base of the result with --base, if all fit it.",
    Advice.NAME_BASE_OR_AVERAGE: "Name one with --base REV, or use average, weighted or slerp.",
    Advice.NAME_FINETUNE: "Name a fine-tune, or commit one with 'dvx commit DIR --base NAME'.",
    Advice.NAME_OR_IMPORT_BASE: "Name it with --base REV, or import it as a base with 'dvx import'.",
    Advice.NAME_OUTSIDE: "Name a directory outside of it.",
    Advice.NAME_RIGHT_BASE: "Name the right base with --base, or import it as a base of its own with 'dvx import'.",
    Advice.NAME_TASK: "Name a task with --task, once or once for each model.",
    Advice.NO_FOLDER_OF_ANOTHER: "A branch cannot be a folder of another; choose another name with --as.",
    Advice.ONE_OF: "One of: {choices}.",
    Advice.ONE_TASK_OR_EACH: "Name one task, or one for each model in order.",
    Advice.OTHER_NAME_OR_REPEAT: "Choose another name with --as; to go on with an interrupted run, repeat its command.",
    Advice.PARENT_BY_ITSELF: "Name the base with --base, and the branch that this continues with --as.",
    Advice.RENAME_OR_RETYPE: "Rename or retype it.",
    Advice.REPLACE_TASK: "Replace it with --force.",
    Advice.RUN_FSCK: "Run 'dvx fsck' to see the damage.",
    Advice.TAG_BASE: "Give one of the bases another name first: dvx tag NAME BASE",
    Advice.TRAINING_COMMAND: "Write it like: --train 'python train.py --model {{init}} --output_dir {{out}}'",
    Advice.TRANSFER_FROM_ITSELF: "Its diff vector is from its own base: dvx transfer --from {delta} --to BASE",
    Advice.WIDEN_SELECTION: "Commit fine-tunes first, or widen --base, --where and --exclude-task.",
    Advice.WRITE_PARENT: "Write --parent REV or REV:ROLE.",
    Advice.WRITE_TO_OUT: "It must write the fine-tuned model to {{out}}.",
    Advice.AVOID_FOLDER: "Choose a name that is not a folder of the other.",
    Advice.COUNT_STEPS: "For example {name}~2.",
    Advice.FIND_MISSING: "Run 'dvx fsck' to see what is missing.",
    Advice.IMPORT_FIRST: "The repository is empty; begin with 'dvx import DIR --as NAME'.",
    Advice.NAMES_OR_EXPRESSION: f"{_NAMES} {_EXPRESSION}",
    Advice.RESTORE_REFS: "Restore .dvx/refs from a copy, or name its commits again; to see them: dvx reflog",
    Advice.READ_REFLOG: "The reflog, .dvx/logs/refs.log, has its earlier values.",
    Advice.REBUILD_INDEX: "Run 'dvx index rebuild'.",
    Advice.PERMIT_INDEX: "Check the permissions of .dvx/index.",
    Advice.FREE_SPACE_FOR_INDEX: "Free some space; the index is derived and nothing is lost.",
    Advice.WAIT_FOR_INDEX: "Try again when it has finished; 'dvx log', 'dvx show' and 'dvx checkout' do not need the index.",
    Advice.NARROW_QUERY: "Filter by commit, or add a LIMIT.",
    Advice.ONE_BY_ONE: "Run them one by one.",
    Advice.CHOOSE_ONE_KIND: "Say which with --base REV, or with --where SQL.",
    Advice.RESTORE_FILE: "Restore the file from a copy of the repository.",
    Advice.SEE_HISTORY: "Use 'dvx log {revision}' to see how far it goes.",
    Advice.SIMILAR_NAMES: _SIMILAR,
    Advice.SIMILAR_NAMES_OR_EXPRESSION: f"{_SIMILAR} {_EXPRESSION}",
    Advice.ADD_ROWS_FILE: "Download it elsewhere and use the file: dvx task add NAME --file rows.jsonl",
    Advice.CHECK_OUT: "Check the checkpoint out to a directory instead.",
    Advice.CLOSE_QUOTE: 'Is there a closing quote? A quote inside a quoted cell is written twice: "".',
    Advice.CORRECT_CHAT_TEMPLATE: (
        "Correct chat_template.jinja, or chat_template in tokenizer_config.json, and commit it; without a"
        " chat template, prompts are plain text."
    ),
    Advice.KNOWN_TASKS: "There are: {tasks}. Your own: dvx task add NAME --file rows.jsonl",
    Advice.LOG_IN: "Check the name; for gated and private models log in with 'hf auth login'.",
    Advice.MATCH_TOKENIZER: (
        "Does the tokenizer belong to this model? If tokens were added, resize the embedding to it."
    ),
    Advice.NAME_DEVICE: "Such as cpu, cuda, cuda:1 or mps.",
    Advice.TASK_NAMES: "Use letters, digits, '.', '_' and '-', at most 100.",
    Advice.OTHER_DEVICE: "Run 'dvx doctor' to see what there is, or use --device cpu.",
    Advice.ROW_FILES: "Use one of {suffixes}.",
    Advice.SAVE_AS_UTF8: "Save the file as UTF-8.",
    Advice.SEPARATE_CELLS: (
        "A .csv file has commas between cells, a .tsv file has tabs; cells that hold one are quoted, as in"
        ' "a, b".'
    ),
    Advice.TASK_FILE_MOVED: "If it has moved: dvx task add {task} --file NEW --force",
    Advice.TEMPLATED_TASK_FILE_MOVED: (
        "If it has moved: dvx task add {task} --file NEW --force, with its --prompt and --answer."
    ),
    Advice.TENSORS_ALONE: "Use checkout() for the tensors alone.",
    Advice.USE_LESS_MEMORY: "Use a smaller batch size, 'auto', a smaller dtype or another device.",
    Advice.WRITE_HUB_NAME: "Write hf://ORG/NAME or hf://ORG/NAME@REVISION.",
    Advice.WRITE_PLACEHOLDERS: "Write {{column}}; write {{{{ and }}}} for braces.",
    Advice.MERGE_METHODS: "The methods are {methods}.",
    Advice.MERGE_PARAMETER: "Parameter {parameter}: {meaning}.",
    Advice.MERGE_PARAMETERS: "It takes {parameters}.",
    Advice.MERGE_PRODUCTS: "Merge them through their products with --exact, which allows other ranks and modules.",
    Advice.EXACT_METHODS: "With --exact use one of: {methods}.",
    Advice.AVERAGE_WHOLE: "Use average or weighted, with adapters that all train it.",
    Advice.COMPARE_ROWS: "Use 'dvx diff A B --stat' to compare their tensors. Rows are padded (--vocab"
    " pad) only for embeddings and heads of a transfer.",
    Advice.COMPARE_TENSORS: "A merge needs the same tensors with the same shapes; compare with 'dvx diff A B"
    " --stat'.",
    Advice.SAVE_ALIKE: "Load one of them with transformers and save it again, so that all are stored alike; then commit"
    " that.",
    Advice.SAME_DEPTH: "A layer that was taken out or put in shifts the others; only models of one depth can be combined.",
    Advice.RELAX_REGRESSION: "Take more rows, a smaller alpha or a ridge above 0.",
    Advice.CHECK_ADAPTER: "Is it an adapter?",
    Advice.CHECK_BASE: "Was it trained from another base? Name it with --base.",
    Advice.GIVE_WEIGHTS: "Give a directory with model.safetensors, or a .safetensors file.",
    Advice.ALLOW_PICKLES: "Prefer a safetensors version. To convert them with torch.load(weights_only=True),"
    " add --allow-pickle-weights.",
    Advice.ONLY_TENSORS: "Only files that hold nothing but tensors can be converted.",
    Advice.SAVE_STATE: "Save the model's state_dict only.",
    Advice.FINISH_DOWNLOAD: "Finish the download, or mend the index. To keep what is there, add --allow-incomplete.",
    Advice.GIVE_NAME: "Name the branch with --as NAME: letters, digits and . _ + - /.",
    Advice.FETCH_POINTERS: "Fetch the files with 'git lfs pull', or leave it out with --exclude '{path}'.",
    Advice.MEND_OR_EXCLUDE: "Mend it, or leave it out with --exclude '{path}'.",
    Advice.NAME_FOLDER: "Name that folder itself: dvx import {path}",
    Advice.ONE_PICKLE: (
        "If they are several models, name one file, or leave it out with --exclude '{path}'; if they are parts of"
        " one, put the parts together first."
    ),
    Advice.NAME_FOLDER: "Name a folder that holds weights itself, such as {path}.",
    Advice.ONE_SHARD: "Each tensor may be in one shard only.",
    Advice.NAME_DIRECTORY: "Name a directory.",
    Advice.REMOVE_LINK: "Name a directory, or remove the link.",
    Advice.MEND_AND_FORCE: "Mend that and run the command again with --force.",
    Advice.ARITHMETIC_DTYPES: "These dtypes can be added and scaled: {dtypes}.",
    Advice.FIND_AND_RESTORE: "Run 'dvx fsck --full' to see all damage, and restore the pack from a copy.",
    Advice.FREE_QUOTA: "Free some space of your quota and run the command again; nothing was changed.",
    Advice.KEEP_SUBNORMALS: "Call torch.set_flush_denormal(False).",
    Advice.KNOWN_DTYPES: "The known dtypes are {dtypes}.",
    Advice.KEEP_TARGET_CONFIG: "Keep the target's with --config target, and change what you need in it.",
    Advice.MOVE_FILES_AWAY: "Commit or move away what you still need, or choose another directory.",
    Advice.UPDATE_CHECKOUT: "It holds an earlier checkout: change that with --update {directory}, or replace files in it with --force.",
    Advice.FORCE_PLAIN_FILES: "To replace what you changed: dvx checkout REV -o DIR --force",
    Advice.FINISH_CHECKOUT: "Finish it: dvx checkout '{revision}' --update {directory}",
    Advice.CHECK_OUT_FIRST: "Write the checkpoint to a new directory: dvx checkout REV -o DIR",
    Advice.NAME_ONE_BASE: "Name the one that it was trained from, by --base {first} or --base {second}.",
    Advice.NAME_ONE_BASE: "Name the one that it was trained from, with --base {first} or --base {second}.",
    Advice.OTHER_BRANCH_OR_FORCE: "Choose another branch with --as, or put it on top of that one with --force.",
    Advice.COMMIT_FOR_OTHER_BASE: "Its files as they are can be committed for the other base: dvx commit DIR --base NAME",
    Advice.CARRY_FOLDED: "Carry over what it changes: use --fold, which adds it to the new base.",
    Advice.NOTHING_TO_FOLD: "Leave --fold out; its weights are whole.",
    Advice.FOLD_LATER: "Carry it over without --fold, and fold the result: dvx checkout REV --merge-adapter -o DIR",
    Advice.SAVE_MERGED: "Save the adapter alone with save_pretrained() of the PEFT model, or merge it in first.",
    Advice.CONVERT_LORA: (
        "It can be stored and checked out as it is. To merge or fold it, load it with diffusers (or merge it into its"
        " model) and save it in PEFT's layout."
    ),
    Advice.GIVE_INITIAL_ADAPTER: (
        "Merge the factors instead: commit the adapter that all were initialised as and name it with --base; or give"
        " more with --memory."
    ),
    Advice.INITIAL_FOR_FACTORS: "Leave --base out, or --exact; ties, dare, dare-ties and task-arithmetic take one.",
    Advice.RAISE_FILE_LIMIT: (
        "The file system or a limit of the shell ('ulimit -f') allows no file of that size."
    ),
    Advice.CHECK_OUT_DEQUANTIZED: (
        "Write its weights out and import those: dvx checkout {revision} --dequantize -o DIR"
    ),
    Advice.DEQUANTIZE: "Add --dequantize to compute with its weights, or use the 16-bit checkpoint.",
    Advice.FOLD_UNQUANTISED: (
        "Commit the adapter against the 16-bit base and fold it into that: dvx commit DIR --base NAME"
    ),
    Advice.USE_UNQUANTISED: "Use the 16-bit checkpoint that it was made from; only --dequantize of 8-bit"
    " floats with scales is known here.",
    Advice.SAVE_ONE_STATE: "Load the file with torch and save only the state_dict that you mean.",
    Advice.SAVE_PLAIN_TENSORS: "Leave it out, or convert it to a dense tensor of a plain dtype, and save again.",
    Advice.SAVE_STATE_DICT: (
        "If you trust the file, load it with torch and save the model's state_dict alone, or use its"
        " save_pretrained."
    ),
    Advice.SAVE_ADAPTER_AGAIN: "Save it again with save_pretrained() of the PEFT model, its parameters gathered first.",
    Advice.COMMIT_FOLDER: "Commit each by itself: dvx commit {folder} --base NAME",
    Advice.RENAME_TENSOR: "Rename it and save again.",
    Advice.GATHER_PARTS: "Put the parts together first: for DeepSpeed with its zero_to_fp32.py, for FSDP with"
    " 'accelerate merge-weights'.",
}

BY_KIND: dict[ErrorKind, str | None] = {
    ErrorKind.NO_REPOSITORY: "Create one with 'dvx init', or name one with --repo DIR or DVX_REPO.",
    ErrorKind.UNKNOWN_REVISION: _NAMES,
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
    ErrorKind.MISSING_PACKAGE: "Install it: pip install {package}",
    ErrorKind.COMMAND_FAILED: (
        "Finished stages are kept: repair the cause and run 'dvx recycle' again as before."
    ),
    ErrorKind.BUG: None,
    ErrorKind.QUANTISED: None,
}


def hint_of(error: DeltaVCSError) -> str | None:
    """The hint for an error: its advice in words, else what its kind says."""
    words = BY_ADVICE[error.advice] if error.advice is not None else BY_KIND[error.kind]
    return words.format_map(_Facts(error.facts)) if words is not None else None


class _Facts(dict[str, str]):
    """Facts by name; one that is missing is left as the name that a user would fill in."""

    def __missing__(self, name: str) -> str:
        return name.upper()
