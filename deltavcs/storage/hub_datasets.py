"""Files of datasets on the Hugging Face Hub: which there are, and a copy of some of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, NotFoundError, StorageError, reason_of
from deltavcs.storage.hub_client import HubOptions, import_hub


@dataclass(frozen=True, slots=True)
class DatasetListing:
    """What a dataset holds at one commit.

    Attributes:
        repo_id: `OWNER/NAME`.
        revision: the name that was asked for.
        commit: what it stands for (40 hex digits).
        files: relative paths with `/`.
    """

    repo_id: str
    revision: str
    commit: str
    files: tuple[str, ...]


def list_dataset(repo_id: str, revision: str, options: HubOptions) -> DatasetListing | None:
    """The files of a dataset at a revision; None if it has no such revision (offline: not in the cache).

    Raises:
        NotFoundError: `unknown-source` if there is no such dataset.
        StorageError: `remote` if the Hub cannot be reached.
        MissingDependencyError: huggingface_hub is not installed.
    """
    return (_list_cached if options.offline else _list_remote)(repo_id, revision, options)


def fetch_files(listing: DatasetListing, names: Sequence[str], options: HubOptions) -> tuple[Path, ...]:
    """Download files of a listing, or find them in the cache; paths in the order of `names`.

    Raises:
        StorageError: `remote` if the Hub cannot be reached; `source-changed` if the dataset moved meanwhile.
        MissingDependencyError: huggingface_hub is not installed.
    """
    return tuple(_fetch_file(listing, name, options) for name in names)


def _list_remote(repo_id: str, revision: str, options: HubOptions) -> DatasetListing | None:
    hub = import_hub()
    api = hub.HfApi(endpoint=options.endpoint, token=options.token or False)
    try:
        info = api.dataset_info(repo_id, revision=revision)
    except hub.errors.RevisionNotFoundError:
        return None
    except hub.errors.RepositoryNotFoundError as exc:
        raise NotFoundError(
            f"no dataset {repo_id} on the Hub (or it is private)", kind=ErrorKind.UNKNOWN_SOURCE
        ) from exc
    except Exception as exc:  # the HTTP client's own errors differ between huggingface_hub versions
        raise _unreachable(repo_id, exc) from exc
    files = tuple(sibling.rfilename for sibling in info.siblings or ())
    return DatasetListing(repo_id, revision, info.sha or revision, files)


def _list_cached(repo_id: str, revision: str, options: HubOptions) -> DatasetListing | None:
    hub = import_hub()
    try:
        folder = Path(
            hub.snapshot_download(
                repo_id,
                repo_type="dataset",
                revision=revision,
                cache_dir=options.cache_dir,
                local_files_only=True,
            )
        )
    except hub.errors.LocalEntryNotFoundError:
        return None
    files = tuple(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return DatasetListing(repo_id, revision, folder.name, files)


def _fetch_file(listing: DatasetListing, name: str, options: HubOptions) -> Path:
    """Download one file by revision name, so that the cache learns the name for offline use."""
    hub = import_hub()
    try:
        path = Path(
            hub.hf_hub_download(
                listing.repo_id,
                name,
                repo_type="dataset",
                revision=listing.revision,
                cache_dir=options.cache_dir,
                endpoint=options.endpoint,
                token=options.token or False,
                local_files_only=options.offline,
            )
        )
    except Exception as exc:  # as in _list_remote
        raise _unreachable(f"{listing.repo_id}/{name}", exc) from exc
    if listing.commit not in path.parts:
        raise StorageError(
            f"dataset {listing.repo_id} changed while it was read",
            kind=ErrorKind.SOURCE_CHANGED,
            retryable=True,
        )
    return path


def _unreachable(what: str, exc: Exception) -> StorageError:
    return StorageError(
        f"cannot fetch dataset {what}: {reason_of(exc)}",
        kind=ErrorKind.REMOTE,
        advice=Advice.ADD_ROWS_FILE,
        retryable=True,
    )
