"""Writing objects: blobs into a pack, small objects beside it, in the order that a crash forgives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from deltavcs.errors import ErrorKind, FormatError, IntegrityError, InvalidInputError, NotFoundError
from deltavcs.objects import model as m
from deltavcs.objects.small import MAX_STORED_BYTES, frame_object, object_key, unframe_object
from deltavcs.oid import CommitId, ManifestId
from deltavcs.storage import LocalStorage

if TYPE_CHECKING:
    from deltavcs.objects.incoming import AddedBlob, NewBlob
    from deltavcs.objects.packwriter import PackWriter

_DECODERS: Mapping[type, Callable[[bytes], object]] = {
    m.Manifest: m.decode_manifest,
    m.Commit: m.decode_commit,
    m.Stats: m.decode_stats,
    m.Score: m.decode_score,
}


class Transaction:
    """Blobs and small objects on their way into the repository (spec §8, steps 1 to 4)."""

    def __init__(self, storage: LocalStorage, writer: PackWriter) -> None:
        self._storage = storage
        self._writer = writer
        self._objects: list[tuple[str, bytes]] = []

    def add_blobs(self, blobs: Iterable[NewBlob]) -> Iterator[AddedBlob]:
        """Store blobs; see `PackWriter.add`."""
        return self._writer.add(blobs)

    def put(self, value: m.Manifest | m.Commit | m.Stats | m.Score) -> str:
        """Queue a small object and return its id.

        Raises:
            InvalidInputError: `bad-argument` for a value that no reader would accept, such as a message
                that is too long or not UTF-8.
        """
        try:
            content = value.encode()
            _DECODERS[type(value)](content)
        except (ValueError, FormatError) as exc:
            raise InvalidInputError(
                f"cannot store this {type(value).__name__.lower()}: {exc}", kind=ErrorKind.BAD_ARGUMENT
            ) from exc
        return self.put_raw(type(value).__name__.lower(), content)

    def put_raw(self, domain: str, content: bytes) -> str:
        """Queue a small object given as canonical JSON and return its id."""
        oid, framed = frame_object(domain, content)
        self._objects.append((oid, framed))
        return oid

    def put_manifest(self, manifest: m.Manifest) -> ManifestId:
        """Queue a manifest."""
        return ManifestId(self.put(manifest))

    def put_commit(self, commit: m.Commit) -> CommitId:
        """Queue a commit."""
        return CommitId(self.put(commit))

    def _is_stored(self, oid: str) -> bool:
        """True if the object is there and whole: a damaged one is written again."""
        try:
            unframe_object(oid, self._storage.read(object_key(oid), max_bytes=MAX_STORED_BYTES))
        except (IntegrityError, FormatError, NotFoundError):
            return False
        return True

    def finish(self) -> None:
        """Publish the pack, its index, then the small objects in the order they were queued."""
        self._writer.finish()
        for oid, framed in self._objects:
            if not self._is_stored(oid):
                self._storage.put(object_key(oid), framed)
        self._objects.clear()
