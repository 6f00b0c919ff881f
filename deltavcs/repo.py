"""A repository: opens the layout, wires the handles, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from deltavcs.config import (
    CACHEDIR_TAG,
    CACHEDIR_TAG_KEY,
    MAX_SETTINGS_BYTES,
    Config,
    Format,
    decode_config,
    decode_format,
    encode_config,
    encode_format,
)
from deltavcs.errors import AlreadyExistsError, ErrorKind, FormatError, NotFoundError
from deltavcs.history.revisions import Resolved, resolve
from deltavcs.objects.model import Commit, Manifest
from deltavcs.objects.store import ObjectStore
from deltavcs.oid import CommitId
from deltavcs.refs import RefStore
from deltavcs.storage import LocalStorage, translate_os_errors

if TYPE_CHECKING:
    from deltavcs.index import LineageIndex

DIRECTORY = ".dvx"
_FOLDERS = ("packs", "objects", "refs/heads", "refs/tags", "logs", "index", "locks", "tmp")


class Repository:
    """The handles of one repository. Verbs are functions of `deltavcs.porcelain`.

    Attributes:
        storage: its directory, `.dvx`.
        objects: blobs, manifests, commits, scores.
        refs: branches and tags.
        config: its settings.
        format: what its format allows.
    """

    def __init__(self, storage: LocalStorage) -> None:
        self.storage = storage
        try:
            self.format: Format = decode_format(storage.read("format", max_bytes=MAX_SETTINGS_BYTES))
        except NotFoundError as exc:
            raise _no_repository(storage.root) from exc
        self.config: Config = (
            decode_config(storage.read("config.toml", max_bytes=MAX_SETTINGS_BYTES))
            if storage.exists("config.toml")
            else Config()
        )
        self.objects = ObjectStore(storage)
        self.refs = RefStore(storage)

    @property
    def path(self) -> Path:
        """The `.dvx` directory."""
        return self.storage.root

    @cached_property
    def index(self) -> LineageIndex:
        """The lineage index."""
        from deltavcs.index import LineageIndex

        return LineageIndex(self.storage, self.objects, self.refs)

    def resolve(self, revision: str) -> CommitId:
        """The commit that a revision names. Raises as `graph.revisions.resolve` does."""
        return self.resolve_named(revision).commit

    def resolve_named(self, revision: str) -> Resolved:
        """The commit that a revision names, with the revision."""
        return resolve(self.objects, self.refs, revision)

    def commit(self, commit: CommitId) -> Commit:
        """A commit by id."""
        return self.objects.get_commit(commit)

    def manifest(self, commit: CommitId) -> Manifest:
        """The manifest of a commit."""
        return self.objects.get_manifest(self.commit(commit).manifest)

    def check_writable(self) -> None:
        """Refuse to write what this version does not understand.

        Raises:
            FormatError: `unsupported-feature`.
        """
        if not self.format.writable:
            raise FormatError(
                "the repository uses features this version cannot write: "
                + ", ".join(self.format.unknown_write_features),
                kind=ErrorKind.UNSUPPORTED_FEATURE,
                hint="Upgrade deltavcs to a version that knows them. Reading still works.",
            )


def init_repository(directory: Path, *, sync: bool = True) -> Repository:
    """Create an empty repository in `directory`/.dvx.

    Raises:
        AlreadyExistsError: `repository-exists`.
        StorageError: it cannot be written.
    """
    root = directory / DIRECTORY
    storage = LocalStorage(root, sync=sync)
    if (root / "format").exists():
        raise AlreadyExistsError(
            f"there is a repository in {directory} already", kind=ErrorKind.REPOSITORY_EXISTS
        )
    files: Mapping[str, bytes] = {
        "config.toml": encode_config(Config()),
        CACHEDIR_TAG_KEY: CACHEDIR_TAG,
        "format": encode_format(),  # last: without it there is no repository yet
    }
    _make_folders(root)
    for key, data in files.items():
        storage.put(key, data)
    return Repository(storage)


def _make_folders(root: Path) -> None:
    with translate_os_errors(f"cannot create {root}"):
        for folder in _FOLDERS:
            (root / folder).mkdir(parents=True, exist_ok=True)


def open_repository(directory: Path) -> Repository:
    """Open the repository in `directory`, which is its `.dvx` or holds it.

    Raises:
        NotFoundError: `no-repository`.
        FormatError: `unsupported-version` or `unsupported-feature`.
    """
    root = directory if directory.name == DIRECTORY else directory / DIRECTORY
    if not (root / "format").is_file() and (directory / "format").is_file():
        root = directory
    if not (root / "format").is_file():
        raise _no_repository(directory)
    return Repository(LocalStorage(root))


def discover_repository(start: Path) -> Repository:
    """Open the repository of `start` or of the nearest directory above it, as Git does.

    Raises:
        NotFoundError: `no-repository`.
    """
    start = start.absolute()
    for directory in (start, *start.parents):
        if (directory / DIRECTORY / "format").is_file():
            return open_repository(directory)
    raise NotFoundError(
        f"no repository in {start} or above it",
        kind=ErrorKind.NO_REPOSITORY,
        hint="Create one with 'dvx init', or name one with --repo DIR or DVX_REPO.",
    )


def open_path(start: str | Path) -> Repository:
    """Open the repository of a directory or of the nearest one above it; `deltavcs.open`.

    Raises:
        NotFoundError: `no-repository`.
    """
    return discover_repository(Path(start))


def _no_repository(directory: Path) -> NotFoundError:
    return NotFoundError(
        f"{directory} is not a repository",
        kind=ErrorKind.NO_REPOSITORY,
        hint="Create one with 'dvx init', or name another with --repo DIR or DVX_REPO.",
    )
