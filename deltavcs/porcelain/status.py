"""What a directory changed since the commit it was checked out from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deltavcs.brief import brief
from deltavcs.checkpoint.intake import Intake
from deltavcs.checkpoint.source import LazyFile, SourceCheckpoint, open_checkpoint
from deltavcs.objects.domain import FILE_DOMAIN, hash_blob, tensor_domain
from deltavcs.objects.incoming import ByteSource, MemorySource
from deltavcs.objects.model import Manifest
from deltavcs.oid import CommitId
from deltavcs.pool import Pool
from deltavcs.repo import Repository
from deltavcs.resources import Resources
from deltavcs.steps.bases import checked_out, find_base
from deltavcs.steps.found_base import Base
from deltavcs.steps.naming import name_of


@dataclass(frozen=True, slots=True)
class Status:
    """How a directory differs from a commit.

    Attributes:
        how: how the commit was found: `given`, `marker` or `inferred`.
        clean: True if a checkout of the commit would give the same files.
    """

    directory: Path
    commit: CommitId
    name: str
    how: str
    clean: bool
    n_tensors: int
    tensors_changed: tuple[str, ...]
    tensors_added: tuple[str, ...]
    tensors_removed: tuple[str, ...]
    files_changed: tuple[str, ...]
    files_added: tuple[str, ...]
    files_removed: tuple[str, ...]

    __repr__ = brief


def status(repo: Repository, directory: str | Path, *, base: str | None = None) -> Status:
    """Compare a directory with the commit it comes from, or with `base`; every byte is read, nothing written.

    Args:
        directory: a checkpoint, as it may be committed.
        base: a revision; None to find it, as `commit` does.

    Raises:
        NotFoundError: an unknown source or revision.
        InvalidInputError: `base-unknown` if the commit cannot be told.
    """
    directory = Path(directory)
    # What a commit holds is compared, also where a new commit would leave it out.
    with open_checkpoint(directory, Intake(incomplete=True)) as checkpoint:
        if base is not None:
            found = Base(repo.resolve(base), base, "given")
        else:
            found = checked_out(repo, directory) or find_base(repo, checkpoint, directory, None)
    manifest = repo.manifest(found.commit)
    intake = Intake(incomplete=True, paths=frozenset(f.path for f in manifest.files))
    with open_checkpoint(directory, intake) as checkpoint:
        tensors, files = _ids(checkpoint, repo.resources)
        return _compare(repo, directory, found, manifest, tensors, files)


def _ids(checkpoint: SourceCheckpoint, resources: Resources) -> tuple[dict[str, str], dict[str, str]]:
    """Blob ids of tensors by key and of files by path; a safetensors file stands for its header."""
    work: list[tuple[bool, str, str, ByteSource]] = [
        (True, key, tensor_domain(t.dtype, t.shape), t.data) for key, t in checkpoint.tensors.items()
    ]
    for file in checkpoint.files:
        lazy = LazyFile(file.location, file.size)
        work.append(
            (False, file.path, FILE_DOMAIN, lazy if file.header is None else MemorySource(file.header))
        )
    tensors: dict[str, str] = {}
    files: dict[str, str] = {}
    done = 0
    with Pool(resources) as pool:
        for (is_tensor, name, _, source), oid in zip(
            work, pool.map(lambda w: hash_blob(w[2], w[3].size, w[3].read_into), work), strict=True
        ):
            (tensors if is_tensor else files)[name] = oid
            done += source.size
            resources.progress("hashing", done, checkpoint.size)
    return tensors, files


def _compare(
    repo: Repository,
    directory: Path,
    base: Base,
    manifest: Manifest,
    tensors: dict[str, str],
    files: dict[str, str],
) -> Status:
    old_tensors = {k: str(t.blob) for k, t in manifest.tensors.items()}
    old_files = {f.path: str(f.blob) for f in manifest.files}
    return Status(
        directory=directory,
        commit=base.commit,
        name=name_of(repo, base.commit),
        how=base.how,
        clean=tensors == old_tensors and files == old_files,
        n_tensors=len(tensors),
        tensors_changed=_changed(old_tensors, tensors),
        tensors_added=tuple(sorted(tensors.keys() - old_tensors.keys())),
        tensors_removed=tuple(sorted(old_tensors.keys() - tensors.keys())),
        files_changed=_changed(old_files, files),
        files_added=tuple(sorted(files.keys() - old_files.keys())),
        files_removed=tuple(sorted(old_files.keys() - files.keys())),
    )


def _changed(old: dict[str, str], new: dict[str, str]) -> tuple[str, ...]:
    return tuple(sorted(k for k in old.keys() & new.keys() if old[k] != new[k]))
