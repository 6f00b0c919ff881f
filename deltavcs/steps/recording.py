"""What every verb that makes a commit shares: write objects, move the branch, catch the index up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from deltavcs.checkpoint.ingested import Ingested
from deltavcs.errors import AlreadyExistsError, ConflictError, DeltaVCSError, ErrorKind
from deltavcs.objects.model import Commit, Parent, Role, Stats
from deltavcs.objects.store import Transaction
from deltavcs.oid import CommitId, ManifestId
from deltavcs.refs import ABSENT, branch_ref
from deltavcs.repo import Repository
from deltavcs.resources import Resources
from deltavcs.signature import Signature
from deltavcs.tensors.dtypes import dtype_of


@dataclass(frozen=True, slots=True)
class Recorded:
    """A new commit.

    Attributes:
        name: the branch.
        raw_bytes: of the checkpoint's files.
        stored_bytes: that were added to the packs.
        unchanged: True if the branch's tip had this content already and nothing was committed.
        nonfinite: tensors that differ from the base where one of both is NaN or Inf.
    """

    commit: CommitId
    name: str
    kind: str
    base: CommitId | None
    n_tensors: int
    raw_bytes: int
    stored_bytes: int
    unchanged: bool = False
    nonfinite: tuple[str, ...] = ()


def tip_of(repo: Repository, name: str) -> CommitId | None:
    """The tip of a branch; None if there is no such branch. Raises InvalidInputError for a bad name."""
    value = repo.refs.get(branch_ref(name))
    return None if value is ABSENT else CommitId(value)


def record(
    repo: Repository,
    name: str,
    draft: Commit,
    ingest: Callable[[Transaction], Ingested],
    *,
    base: CommitId | None,
    signature: Signature,
    resources: Resources,
    append: bool = True,
) -> Recorded:
    """Store a checkpoint and commit it to a branch (spec §8).

    Args:
        draft: the commit without manifest, stats and `previous` parent.
        ingest: stores the blobs.
        base: the commit whose differences `ingest` measured.
        append: False refuses a branch that exists.

    Raises:
        ConflictError: `ref-moved` if someone committed to the branch meanwhile.
        AlreadyExistsError: `ref-exists` if the branch exists and `append` is False.
        KeyboardInterrupt: with a text if it came after the branch had moved: the commit stays.
    """
    repo.check_writable()
    ref = branch_ref(name)
    tip = tip_of(repo, name)
    if tip is not None and not append:
        raise AlreadyExistsError(
            f"{name} exists already", kind=ErrorKind.REF_EXISTS, hint="Choose another name with --as."
        )
    commit_id = None
    try:
        with repo.objects.transaction(resources, level=repo.config.zstd_level) as transaction:
            done = ingest(transaction)
            manifest = transaction.put_manifest(done.manifest)
            commit = _complete(transaction, draft, done, manifest, base=base, tip=tip)
            if tip is not None and _same(repo.commit(tip), commit):
                return _recorded(tip, name, commit, done, base, unchanged=True)
            _check_parents(repo, commit)
            commit_id = transaction.put_commit(commit)
            transaction.finish()
            repo.refs.move(ref, expected=tip or ABSENT, new=commit_id, signature=signature)
        catch_up(repo)
    except KeyboardInterrupt as exc:
        if commit_id is not None and repo.refs.get(ref) == commit_id:
            raise KeyboardInterrupt(f"{name} was already recorded as {commit_id[:12]}") from exc
        raise
    return _recorded(commit_id, name, commit, done, base)


def _complete(
    transaction: Transaction,
    draft: Commit,
    done: Ingested,
    manifest: ManifestId,
    *,
    base: CommitId | None,
    tip: CommitId | None,
) -> Commit:
    stats = transaction.put(Stats(base, done.stats)) if base is not None and done.stats else None
    parents = draft.parents
    if tip is not None and tip not in {p.commit for p in parents if p.role == Role.PREVIOUS}:
        parents = (*parents, Parent(tip, Role.PREVIOUS))
    return replace(draft, manifest=manifest, stats=stats, parents=parents)


def _check_parents(repo: Repository, commit: Commit) -> None:
    """A gc may have come between reading a parent and taking the lock that keeps gc away."""
    for parent in commit.parents:
        if not repo.objects.has(parent.commit):
            raise ConflictError(
                f"commit {parent.commit[:12]} was removed meanwhile",
                kind=ErrorKind.REF_MOVED,
                hint="Run the command again.",
            )


def _same(tip: Commit, commit: Commit) -> bool:
    """True if a commit would add nothing to the tip but a date."""
    return (
        (tip.manifest, tip.kind, tip.task) == (commit.manifest, commit.kind, commit.task)
        and dict(tip.metadata) == dict(commit.metadata)
        and _made_from(commit) <= _made_from(tip)
        and commit.message in ("", tip.message)
    )


def _made_from(commit: Commit) -> set[tuple[str, str]]:
    """The parents but for the branch's earlier commit."""
    return {(p.role, p.commit) for p in commit.parents if p.role != Role.PREVIOUS}


def _recorded(
    commit_id: CommitId,
    name: str,
    commit: Commit,
    done: Ingested,
    base: CommitId | None,
    *,
    unchanged: bool = False,
) -> Recorded:
    return Recorded(
        commit=commit_id,
        name=name,
        kind=str(commit.kind),
        base=base,
        n_tensors=len(done.manifest.tensors),
        raw_bytes=done.raw_bytes,
        stored_bytes=0 if unchanged else done.stored_bytes,
        unchanged=unchanged,
        nonfinite=_nonfinite(done),
    )


def _nonfinite(done: Ingested) -> tuple[str, ...]:
    """Tensors whose difference has no finite norm though their dtype has arithmetic."""
    tensors = done.manifest.tensors
    without_norm = (name for name, stat in done.stats.items() if stat.l2 is None)
    return tuple(name for name in without_norm if dtype_of(tensors[name].dtype).arithmetic)


def catch_up(repo: Repository) -> None:
    """Bring the index up to date, best effort: it is derived, and the next command tries again.

    Raises:
        KeyboardInterrupt: also where DuckDB noticed the interrupt first and calls it an error of its own.
    """
    try:
        repo.index.catch_up(wait_s=0.2)
    except DeltaVCSError as exc:
        if exc.kind is ErrorKind.BUG:
            raise
    except RuntimeError as exc:
        if "interrupted" in str(exc).lower():
            raise KeyboardInterrupt from exc
        raise


EMPTY = ManifestId("")
