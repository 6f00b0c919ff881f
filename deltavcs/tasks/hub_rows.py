"""Dataset files from the Hugging Face Hub: the only place of this package that speaks to it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from deltavcs.errors import ErrorKind, NotFoundError, StorageError
from deltavcs.tasks.rows import SUFFIXES

# Datasets that are still a loading script carry their rows on this branch, converted by the Hub.
CONVERTED_REVISION = "refs/convert/parquet"
_HINT = "download it elsewhere and use the file: dvx task add NAME --file rows.jsonl"
SPLIT_WORDS = {
    "train": frozenset({"train", "training"}),
    "validation": frozenset({"validation", "valid", "val", "dev"}),
    "test": frozenset({"test"}),
}


@dataclass(frozen=True, slots=True)
class HubOptions:
    """How to reach the Hub; everything the environment would otherwise decide.

    Attributes:
        endpoint: base URL; None for the public Hub.
        token: access token, or None.
        cache_dir: where files are kept; None for huggingface_hub's own cache.
        offline: use only what the cache holds.
    """

    endpoint: str | None = None
    token: str | None = None
    cache_dir: Path | None = None
    offline: bool = False


def split_of(name: str) -> str | None:
    """The split that a file name (or path) speaks of, the last mention winning; None if none."""
    for word in reversed(re.split(r"[/_.\-]+", name.lower())):
        for split, words in SPLIT_WORDS.items():
            if word in words:
                return split
    return None


def group_by_split(names: Sequence[str], *, config: str | None, prefix: str | None) -> dict[str, list[str]]:
    """Data files by split, sorted by name.

    Args:
        names: relative paths with `/`.
        config: the dataset's configuration: files below a folder of this name win over all others.
        prefix: files whose name starts with it (then `_`, `-` or `.`) win over all others.

    Returns:
        split → files. Files that name no split count as `train`, but only if no file names one.
    """
    files = sorted(name for name in names if PurePosixPath(name).suffix.lower() in SUFFIXES)
    if config is not None:
        files = [f for f in files if config in PurePosixPath(f).parent.parts] or files
    if prefix is not None:
        starts = tuple(prefix + mark for mark in "_-.")
        files = [f for f in files if PurePosixPath(f).name.startswith(starts)] or files
    groups: dict[str, list[str]] = {}
    for name in files:
        # The configuration's own name may hold a split word ("train_xl"); only what is below it counts.
        below = name.split(f"{config}/", 1)[-1] if config else name
        if (split := split_of(below)) is not None:
            groups.setdefault(split, []).append(name)
    return groups or ({"train": files} if files else {})


@dataclass(frozen=True, slots=True)
class FetchedSplit:
    """One split of a dataset, on this machine.

    Attributes:
        split: which one it is.
        commit: the dataset's commit (40 hex digits).
        paths: its files, sorted by name.
    """

    split: str
    commit: str
    paths: tuple[Path, ...]


def fetch_split(
    repo_id: str,
    *,
    splits: Sequence[str],
    revision: str | None = None,
    config: str | None = None,
    options: HubOptions,
) -> FetchedSplit:
    """Download (or find in the cache) the first of `splits` that the dataset has.

    Without `revision`, `main` is asked first, then the Hub's parquet conversion. All files come from one
    commit.

    Raises:
        NotFoundError: `unknown-source` if there is no such dataset, or none of `splits` in it.
        StorageError: `remote` if the Hub cannot be reached; `source-changed` if the dataset moved meanwhile.
    """
    asked = (revision,) if revision is not None else ("main", CONVERTED_REVISION)
    for name in asked:
        listing = (_list_cached if options.offline else _list_remote)(repo_id, name, options)
        if listing is None:
            continue
        commit, files = listing
        groups = group_by_split(files, config=config, prefix=None)
        for split in splits:
            if split in groups:
                paths = tuple(_fetch(repo_id, name, commit, file, options) for file in groups[split])
                return FetchedSplit(split=split, commit=commit, paths=paths)
    raise NotFoundError(
        f"dataset {repo_id} has no parquet, jsonl or csv file for {' or '.join(splits)}"
        f" at {' or '.join(asked)}{' in the cache' if options.offline else ''}",
        kind=ErrorKind.UNKNOWN_SOURCE,
        hint=_HINT,
    )


def _list_remote(repo_id: str, revision: str, options: HubOptions) -> tuple[str, list[str]] | None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    api = HfApi(endpoint=options.endpoint, token=options.token or False)
    try:
        info = api.dataset_info(repo_id, revision=revision)
    except RevisionNotFoundError:
        return None
    except RepositoryNotFoundError as exc:
        raise NotFoundError(
            f"no dataset {repo_id} on the Hub (or it is private)", kind=ErrorKind.UNKNOWN_SOURCE
        ) from exc
    except Exception as exc:  # the HTTP client's own errors differ between huggingface_hub versions
        raise _unreachable(repo_id, exc) from exc
    return info.sha or revision, [sibling.rfilename for sibling in info.siblings or ()]


def _list_cached(repo_id: str, revision: str, options: HubOptions) -> tuple[str, list[str]] | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(
                repo_id,
                repo_type="dataset",
                revision=revision,
                cache_dir=options.cache_dir,
                local_files_only=True,
            )
        )
    except LocalEntryNotFoundError:
        return None
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return folder.name, files


def _fetch(repo_id: str, revision: str, commit: str, name: str, options: HubOptions) -> Path:
    """Download one file by revision name, so that the cache learns the name for offline use."""
    from huggingface_hub import hf_hub_download

    try:
        path = Path(
            hf_hub_download(
                repo_id,
                name,
                repo_type="dataset",
                revision=revision,
                cache_dir=options.cache_dir,
                endpoint=options.endpoint,
                token=options.token or False,
                local_files_only=options.offline,
            )
        )
    except Exception as exc:  # as in _list_remote
        raise _unreachable(f"{repo_id}/{name}", exc) from exc
    if commit not in path.parts:
        raise StorageError(
            f"dataset {repo_id} changed while it was read", kind=ErrorKind.SOURCE_CHANGED, retryable=True
        )
    return path


def _unreachable(what: str, exc: Exception) -> StorageError:
    reason = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
    return StorageError(
        f"cannot fetch dataset {what}: {reason}", kind=ErrorKind.REMOTE, hint=_HINT, retryable=True
    )
