"""Recording a commit: write its objects, move the branch, catch the index up (spec §8).

    with recording(repo, "chat") as record:
        stored = ingest(record.transaction, checkpoint, base=base, previous=record.previous, …)
        made = record.commit(stored, draft, made_as)

What `commit` does last, the move of the branch, is what makes it a commit: before it, nothing has happened.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from deltavcs.advice import Advice
from deltavcs.brief import brief
from deltavcs.checkpoint.ingested import Ingested
from deltavcs.errors import ConflictError, DeltaVCSError, ErrorKind
from deltavcs.objects.model import Commit, Kind, Manifest, Parent, Role, Stats
from deltavcs.objects.transaction import Transaction
from deltavcs.oid import CommitId, ManifestId
from deltavcs.refs import ABSENT, branch_ref
from deltavcs.repo import Repository
from deltavcs.signature import Signature
from deltavcs.tensors.dtypes import dtype_of


@dataclass(frozen=True, slots=True)
class Draft:
    """What a caller says of a commit that is to be made.

    Attributes:
        name: the branch to commit to; None for the verb's own choice.
        message: what it is, for the history.
        task: what the checkpoint was trained for.
        metadata: facts to keep with it.
        signature: who makes it, when, and why for the reflog; None for the repository's identity.
        force: put it on top of a branch that holds another kind of checkpoint, or unrelated weights.
    """

    name: str | None = None
    message: str = ""
    task: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    signature: Signature | None = None
    force: bool = False

    def signed(self, repo: Repository, why: str) -> Draft:
        """The draft with a signature; `why` is for the reflog if the draft has no message."""
        if self.signature is not None:
            return self
        return replace(self, signature=repo.identity.sign(self.message or why))


@dataclass(frozen=True, slots=True)
class MadeAs:
    """How a checkpoint came to be: what a verb knows of the commit that it makes.

    Attributes:
        base: the commit whose differences were measured; None if there is none.
        parents: without the branch's earlier commit, which is added.
        recipe: for what was computed.
        source: for what was read from outside.
    """

    kind: Kind
    base: CommitId | None = None
    parents: tuple[Parent, ...] = ()
    recipe: str | None = None
    source: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A new commit.

    Attributes:
        name: the branch.
        raw_bytes: of the checkpoint's files.
        stored_bytes: of the files that were added: pack, its index and small objects such as the manifest.
            The ref, its line in the reflog and the lineage index are not counted.
        unchanged: True if the branch's tip had this content already and nothing was committed.
        nonfinite: tensors that differ from the base where one of both is NaN or Inf.
        overflowed: by tensor, how many finite values became Inf or NaN when it was computed and rounded.
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
    overflowed: Mapping[str, int] = field(default_factory=dict)

    __repr__ = brief


class Recording:
    """A commit under way.

    Attributes:
        transaction: takes the blobs.
        tip: the branch's commit so far; None for a new branch.
    """

    def __init__(self, repo: Repository, name: str, transaction: Transaction, tip: CommitId | None) -> None:
        self._repo = repo
        self._name = name
        self.transaction = transaction
        self.tip = tip
        self.moved_to: CommitId | None = None

    @cached_property
    def previous(self) -> Manifest | None:
        """Content of the branch so far."""
        return self._repo.manifest(self.tip) if self.tip is not None else None

    def commit(self, stored: Ingested, draft: Draft, made_as: MadeAs) -> Recorded:
        """Write the commit and move the branch to it, unless it would add nothing to the tip.

        Args:
            stored: what the transaction was given.
            draft: signed.

        Raises:
            ConflictError: `ref-moved` if someone committed to the branch meanwhile.
        """
        repo, transaction = self._repo, self.transaction
        manifest = transaction.put_manifest(stored.manifest)
        commit = self._complete(stored, draft, made_as, manifest)
        if self.tip is not None and _adds_nothing(repo.commit(self.tip), commit):
            return self._recorded(self.tip, stored, made_as, added=0, unchanged=True)
        _check_parents(repo, commit)
        commit_id = transaction.put_commit(commit)
        added = transaction.finish()
        self.moved_to = commit_id
        signature = _signature_of(draft)
        repo.refs.move(
            branch_ref(self._name), expected=self.tip or ABSENT, new=commit_id, signature=signature
        )
        return self._recorded(commit_id, stored, made_as, added=added)

    def _complete(self, stored: Ingested, draft: Draft, made_as: MadeAs, manifest: ManifestId) -> Commit:
        stats = None
        if made_as.base is not None and stored.stats:
            stats = self.transaction.put(Stats(made_as.base, stored.stats))
        parents = made_as.parents
        if self.tip is not None and self.tip not in {p.commit for p in parents if p.role == Role.PREVIOUS}:
            parents = (*parents, Parent(self.tip, Role.PREVIOUS))
        signature = _signature_of(draft)
        return Commit(
            kind=made_as.kind,
            manifest=manifest,
            parents=parents,
            message=draft.message,
            author=signature.author,
            time=signature.time,
            task=draft.task,
            recipe=made_as.recipe,
            stats=stats,
            metadata=dict(draft.metadata),
            source=dict(made_as.source),
        )

    def _recorded(
        self, commit_id: CommitId, stored: Ingested, made_as: MadeAs, *, added: int, unchanged: bool = False
    ) -> Recorded:
        return Recorded(
            commit=commit_id,
            name=self._name,
            kind=str(made_as.kind),
            base=made_as.base,
            n_tensors=len(stored.manifest.tensors),
            raw_bytes=stored.raw_bytes,
            stored_bytes=added,
            unchanged=unchanged,
            nonfinite=_nonfinite(stored),
            overflowed=stored.overflowed,
        )


@contextlib.contextmanager
def recording(repo: Repository, name: str) -> Iterator[Recording]:
    """Store a checkpoint and commit it to the branch `name`.

    Raises:
        FormatError: `unsupported-feature` if this version cannot write to the repository.
        KeyboardInterrupt: with a text if it came after the branch had moved: the commit stays.
    """
    repo.check_writable()
    tip = tip_of(repo, name)
    record = None
    try:
        with repo.objects.transaction(repo.resources, level=repo.config.zstd_level) as transaction:
            record = Recording(repo, name, transaction, tip)
            yield record
        catch_up(repo)
    except KeyboardInterrupt as exc:
        made = record.moved_to if record is not None else None
        if made is not None and repo.refs.get(branch_ref(name)) == made:
            raise KeyboardInterrupt(f"{name} was already recorded as {made[:12]}") from exc
        raise


def tip_of(repo: Repository, name: str) -> CommitId | None:
    """The tip of a branch; None if there is no such branch. Raises InvalidInputError for a bad name."""
    value = repo.refs.get(branch_ref(name))
    return None if value is ABSENT else CommitId(value)


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


def _signature_of(draft: Draft) -> Signature:
    assert draft.signature is not None
    return draft.signature


def _check_parents(repo: Repository, commit: Commit) -> None:
    """A gc may have come between reading a parent and taking the lock that keeps gc away."""
    for parent in commit.parents:
        if not repo.objects.has(parent.commit):
            raise ConflictError(
                f"commit {parent.commit[:12]} was removed meanwhile",
                kind=ErrorKind.REF_MOVED,
                advice=Advice.RUN_AGAIN,
            )


def _adds_nothing(tip: Commit, commit: Commit) -> bool:
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


def _nonfinite(stored: Ingested) -> tuple[str, ...]:
    """Tensors whose difference has no finite norm though their dtype has arithmetic."""
    tensors = stored.manifest.tensors
    without_norm = (n for n, stat in stored.stats.items() if stat.l2 is None and n not in stored.packed)
    return tuple(name for name in without_norm if dtype_of(tensors[name].dtype).arithmetic)
