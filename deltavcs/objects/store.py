"""The object store: small objects by id, blobs in packs, and transactions that add to both."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, FormatError, IntegrityError, NotFoundError
from deltavcs.objects import model as m
from deltavcs.objects.packstore import PackStore
from deltavcs.objects.reader import BlobReader
from deltavcs.objects.small import MAX_STORED_BYTES, object_key, unframe_object
from deltavcs.objects.transaction import Transaction
from deltavcs.oid import is_oid
from deltavcs.resources import Resources
from deltavcs.storage import LocalStorage, Workspace

GC_LOCK = "locks/gc"
"""Held shared by whoever adds objects or names them, alone by gc."""


class ObjectStore:
    """Reads objects and blobs. Takes no lock; safe to use from many threads.

    Attributes:
        packs: where blobs lie.
    """

    def __init__(self, storage: LocalStorage) -> None:
        self.storage = storage
        self.packs = PackStore(storage)

    @property
    def blobs(self) -> BlobReader:
        """Reads blobs."""
        return self.packs.blobs

    def get(self, domain: str, oid: str) -> bytes:
        """Content of the object `oid`, which must be of `domain`.

        Raises:
            IntegrityError: `missing-object`, or the object is damaged.
            FormatError: it is of another domain.
        """
        try:
            data = self.storage.read(object_key(oid), max_bytes=MAX_STORED_BYTES)
        except NotFoundError as exc:
            raise IntegrityError(
                f"{domain} {oid[:12]} is not in the repository",
                kind=ErrorKind.MISSING_OBJECT,
                advice=Advice.FIND_MISSING,
            ) from exc
        found, content = unframe_object(oid, data)
        if found != domain:
            raise FormatError(f"object {oid[:12]} is a {found}, not a {domain}", kind=ErrorKind.BAD_OBJECT)
        return content

    def has(self, oid: str) -> bool:
        """True if there is a small object `oid`."""
        return self.storage.exists(object_key(oid))

    def get_commit(self, oid: str) -> m.Commit:
        """The commit `oid`. Raises as `get` does."""
        return m.decode_commit(self.get("commit", oid))

    def get_manifest(self, oid: str) -> m.Manifest:
        """The manifest `oid`. Raises as `get` does."""
        return m.decode_manifest(self.get("manifest", oid))

    def get_stats(self, oid: str) -> m.Stats:
        """The stats `oid`. Raises as `get` does."""
        return m.decode_stats(self.get("stats", oid))

    def get_score(self, oid: str) -> m.Score:
        """The score `oid`. Raises as `get` does."""
        return m.decode_score(self.get("score", oid))

    def ids(self) -> Iterator[str]:
        """Ids of all small objects, sorted."""
        for key in self.storage.list("objects"):
            oid = key.removeprefix("objects/").replace("/", "")
            if is_oid(oid):
                yield oid

    def ids_with_prefix(self, prefix: str) -> list[str]:
        """Ids of the small objects that begin with `prefix`, at least 2 hexadecimal digits."""
        keys = self.storage.list(f"objects/{prefix[:2]}")
        ids = (key.removeprefix("objects/").replace("/", "") for key in keys)
        return [oid for oid in ids if is_oid(oid) and oid.startswith(prefix)]

    @contextlib.contextmanager
    def transaction(self, resources: Resources, *, level: int) -> Iterator[Transaction]:
        """Write objects. The caller moves the ref inside the block, after `Transaction.finish`.

        Args:
            level: zstd level.
        """
        from deltavcs.objects.packwriter import PackWriter

        with self.storage.lock(GC_LOCK, shared=True), Workspace(self.storage) as workspace:
            self.packs.refresh()
            writer = PackWriter(workspace, self.blobs, resources, known=self.packs.knows, level=level)
            yield Transaction(self.storage, writer)
