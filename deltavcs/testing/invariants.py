"""What must hold in a repository after any crash, at any moment (spec §8)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from blake3 import blake3

from deltavcs.objects.domain import hash_blob
from deltavcs.objects.model import Manifest
from deltavcs.objects.packindex import decode_index, encode_index, scan_pack
from deltavcs.oid import BlobId, CommitId
from deltavcs.repo import Repository, open_repository
from deltavcs.storage import Workspace


def check_repository(directory: Path, *, lineage: bool = True) -> Repository:
    """Open a repository anew and prove that nothing a ref names is missing, damaged or half done.

    Every ref names an object; every commit, manifest, stats and blob that it reaches is there and
    hashes to its id; every pack is named by its bytes and has an index equal to its entries, or none;
    `tmp/` is empty once the next writer has swept; the lineage index equals a rebuilt one.

    Args:
        lineage: False leaves the lineage index out, which takes most of the time.

    Raises:
        AssertionError: an invariant does not hold.
        DeltaVCSError: something that must be readable is not.
    """
    repo = open_repository(directory)
    for ref, target in repo.refs.all("refs").items():
        if ref.startswith(("refs/heads/", "refs/tags/")):
            check_closure(repo, CommitId(target))
    _check_packs(repo)
    with Workspace(repo.storage):
        pass
    left = sorted(p.name for p in (repo.path / "tmp").iterdir())
    assert not left, f"tmp/ holds {left} after a sweep"
    if lineage:
        _check_lineage(repo)
    return repo


def check_closure(repo: Repository, tip: CommitId) -> None:
    """Read and re-hash everything that a commit reaches."""
    commits, blobs, todo = set(), set(), [tip]
    while todo:
        commit_id = todo.pop()
        if commit_id in commits:
            continue
        commits.add(commit_id)
        commit = repo.commit(commit_id)
        todo += [p.commit for p in commit.parents]
        if commit.stats is not None:
            repo.objects.get_stats(commit.stats)
        blobs |= _blobs(repo.objects.get_manifest(commit.manifest))
    for blob in blobs:
        check_blob(repo, blob)


def _blobs(manifest: Manifest) -> set[BlobId]:
    return {f.blob for f in manifest.files} | {t.blob for t in manifest.tensors.values()}


def check_blob(repo: Repository, blob: BlobId) -> None:
    """Read a blob and prove its id."""
    prefix = repo.objects.blobs.stored(blob).prefix
    found = hash_blob(prefix.domain, prefix.head.raw_bytes, partial(repo.objects.blobs.read_into, blob))
    assert found == blob, f"blob {blob[:12]} does not hash to its id"


def _check_packs(repo: Repository) -> None:
    for path in (repo.path / "packs").iterdir():
        if path.suffix == ".pack":
            assert blake3(path.read_bytes()).hexdigest() == path.stem, (
                f"{path.name} is not named by its bytes"
            )
            with repo.storage.open(f"packs/{path.name}") as file:
                scanned = encode_index(scan_pack(file), file.size)
            index = path.with_suffix(".idx")
            assert not index.exists() or index.read_bytes() == scanned, f"{index.name} is wrong"
        else:
            decode_index(path.read_bytes())


def _check_lineage(repo: Repository) -> None:
    repo.index.catch_up(packs=True)
    caught_up = lineage_rows(repo)
    repo.index.rebuild()
    assert lineage_rows(repo) == caught_up, "the lineage index differs from a rebuilt one"


def lineage_rows(repo: Repository) -> dict[str, list[Any]]:
    """All rows of the lineage index, by table, in one order."""

    def rows(connection: Any) -> dict[str, list[Any]]:
        tables = connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE NOT internal AND table_name NOT LIKE '%migration%'"
        ).fetchall()
        return {
            name: connection.execute(f'SELECT * FROM "{name}" ORDER BY ALL').fetchall() for (name,) in tables
        }

    return repo.index.read(rows)
