"""What the index is derived from, as the few calls it makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from deltavcs.objects.model import Commit, Manifest, Score, Stats
from deltavcs.oid import CommitId, ManifestId, PackId


class PackIndexReader(Protocol):
    """Reads the indexes of packs. Called from several threads."""

    def ids(self) -> frozenset[PackId]:
        """Return the ids of all packs."""

    def records(self, pack: PackId, /) -> Any:
        """Return the records of one pack's index, an array of `objects.packindex.RECORD`."""


class ObjectReader(Protocol):
    """Reads objects. Called from several threads."""

    def get_commit(self, commit_id: CommitId, /) -> Commit:
        """Return a commit."""

    def get_manifest(self, manifest_id: ManifestId, /) -> Manifest:
        """Return a manifest."""

    def get_stats(self, stats_id: str, /) -> Stats:
        """Return stats."""

    def get_score(self, score_id: str, /) -> Score:
        """Return a score."""

    @property
    def packs(self) -> PackIndexReader:
        """Return what reads pack indexes."""


class RefReader(Protocol):
    """Reads refs."""

    def all(self) -> Mapping[str, str]:
        """Return the target of every ref by its full name."""
