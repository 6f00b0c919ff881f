"""A repository: opens the layout, wires the handles, nothing else."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from deltavcs.advice import Advice
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
from deltavcs.identity import Identity
from deltavcs.objects.model import Commit, Manifest
from deltavcs.objects.store import ObjectStore
from deltavcs.oid import CommitId
from deltavcs.refs import RefStore
from deltavcs.resources import Resources
from deltavcs.storage import LocalStorage, translate_os_errors

if TYPE_CHECKING:
    from deltavcs.index import LineageIndex

DIRECTORY = ".dvx"
_FOLDERS = ("packs", "objects", "refs/heads", "refs/tags", "logs", "index", "locks", "tmp")


class Repository:
    """The handles of one repository: what `dv.init`, `dv.open` and `dv.discover` give, and verbs take.

    Several handles, also of several processes, may write at once: who moves the same branch second gets a
    ConflictError.

    Attributes:
        storage: its directory, `.dvx`.
        objects: blobs, manifests, commits, scores.
        refs: branches and tags.
        config: its settings.
        format: what its format allows.
        identity: signs what is written, where a caller gives no signature.
        resources: what an operation may use.
    """

    def __init__(
        self, storage: LocalStorage, *, identity: Identity | None = None, resources: Resources | None = None
    ) -> None:
        self.storage = storage
        self.identity = identity or Identity()
        self.resources = resources or Resources()
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

    def __repr__(self) -> str:
        return f"Repository({str(self.path)!r})"

    def using(self, *, identity: Identity | None = None, resources: Resources | None = None) -> Repository:
        """Another handle of the same repository, for work with another identity or other resources.

        Args:
            identity: signs what is written; None for this handle's.
            resources: threads, memory and progress; None for this handle's.
        """
        other = copy.copy(self)
        other.identity, other.resources = identity or self.identity, resources or self.resources
        return other

    @property
    def path(self) -> Path:
        """The `.dvx` directory."""
        return self.storage.root

    @cached_property
    def index(self) -> LineageIndex:
        """The lineage index, which `dv.sql` asks; derived, and brought up to date when it is read."""
        from deltavcs.index import LineageIndex

        return LineageIndex(self.storage, self.objects, self.refs)

    def resolve(self, revision: str) -> CommitId:
        """The id of the commit that a revision names.

        Raises:
            NotFoundError: `unknown-revision`, with the fact `similar` where there are such names.
            InvalidInputError: `ambiguous-revision` for the beginning of several ids; `bad-revision`.
        """
        return self.resolve_named(revision).commit

    def resolve_named(self, revision: str) -> Resolved:
        """The commit that a revision names, with the revision. Raises as `resolve` does."""
        return resolve(self.objects, self.refs, revision)

    def commit(self, commit: CommitId) -> Commit:
        """A commit by its full id.

        Raises:
            NotFoundError: `unknown-object`.
            IntegrityError: it is damaged.
        """
        return self.objects.get_commit(commit)

    def manifest(self, commit: CommitId) -> Manifest:
        """The tensors and files of a commit, by its full id. Raises as `commit` does."""
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
                advice=Advice.UPGRADE_TO_WRITE,
            )


def init_repository(directory: str | Path, *, sync: bool = True) -> Repository:
    """Create an empty repository in `directory`/.dvx.

    Args:
        directory: is made if it does not exist.
        sync: False leaves it to the system when data reaches the disk: for tests and throw-away repositories.

    Raises:
        AlreadyExistsError: `repository-exists`.
        StorageError: it cannot be written.
    """
    root = Path(directory) / DIRECTORY
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


def open_repository(
    directory: str | Path, *, identity: Identity | None = None, resources: Resources | None = None
) -> Repository:
    """Open the repository in `directory`, which is its `.dvx` or holds it. Folders above are not looked at.

    Args:
        directory: the `.dvx`, or the folder that holds it.
        identity: signs what is written; by default the user of this process, and its clock.
        resources: threads, memory and progress of the work on weights; by default all cores and 2 GiB.

    Raises:
        NotFoundError: `no-repository`.
        FormatError: `unsupported-version` or `unsupported-feature`.
    """
    directory = Path(directory)
    root = directory if directory.name == DIRECTORY else directory / DIRECTORY
    if not (root / "format").is_file() and (directory / "format").is_file():
        root = directory
    if not (root / "format").is_file():
        raise _no_repository(directory)
    return Repository(LocalStorage(root), identity=identity, resources=resources)


def discover_repository(
    start: str | Path = ".", *, identity: Identity | None = None, resources: Resources | None = None
) -> Repository:
    """Open the repository of `start` or of the nearest directory above it, as Git does.

    Args:
        start: where to begin.
        identity, resources: as for `open`.

    Raises:
        NotFoundError: `no-repository`.
    """
    start = Path(start).absolute()
    for directory in (start, *start.parents):
        if (directory / DIRECTORY / "format").is_file():
            return open_repository(directory, identity=identity, resources=resources)
    raise NotFoundError(f"no repository in {start} or above it", kind=ErrorKind.NO_REPOSITORY)


def _no_repository(directory: Path) -> NotFoundError:
    return NotFoundError(f"{directory} is not a repository", kind=ErrorKind.NO_REPOSITORY)
