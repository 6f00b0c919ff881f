"""Committing a trained checkpoint against its base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deltavcs.adapters.adapter_config import parse_adapter_config, read_adapter_config
from deltavcs.checkpoint.correspondence import Correspondence
from deltavcs.checkpoint.ingest import ingest
from deltavcs.checkpoint.layout import ADAPTER_CONFIG
from deltavcs.checkpoint.matching import match, of_manifest, of_source, respelled
from deltavcs.errors import InvalidInputError
from deltavcs.objects.model import Kind, Manifest, Parent, Role
from deltavcs.oid import CommitId
from deltavcs.repo import Repository
from deltavcs.steps.adapter_checks import holds_adapter
from deltavcs.steps.bases import check_fits
from deltavcs.steps.found_base import Base
from deltavcs.steps.recording import Draft, MadeAs, Recorded, recording
from deltavcs.steps.same_weights import same_weights
from deltavcs.steps.sources import OpenedSource


@dataclass(frozen=True, slots=True)
class CommittedSource:
    """A checkpoint that was committed against its base.

    Attributes:
        found: which tensor is which of the base's; None for an adapter.
        copy_of: the commit that had these very weights before; None if they are new.
    """

    recorded: Recorded
    found: Correspondence | None
    copy_of: CommitId | None


def commit_source(
    repo: Repository, opened: OpenedSource, base: Base, draft: Draft, *, parents: Sequence[Parent] = ()
) -> CommittedSource:
    """Store a checkpoint as a change to its base, and commit it to the draft's branch.

    Args:
        draft: signed, with a name.
        parents: beside the base, what training went on from, and the branch's earlier commit.

    Raises:
        InvalidInputError: `incompatible` if its tensors are not those of the base.
    """
    checkpoint = opened.checkpoint
    found = check_fits(repo, checkpoint, base)
    is_adapter = holds_adapter(checkpoint)
    kind = Kind.ADAPTER if is_adapter else Kind.FINETUNE
    assert draft.name is not None
    own = [Parent(base.commit, Role.BASE), *([Parent(base.init, Role.INIT)] if base.init is not None else [])]
    made_as = MadeAs(kind=kind, base=base.commit, parents=(*own, *parents), source=opened.origin)
    below = repo.manifest(base.commit)
    with recording(repo, draft.name) as record:
        stored = ingest(
            record.transaction,
            checkpoint,
            base=below if found is None else respelled(below, found),
            previous=_in_our_spelling(repo, opened, record.previous),
            resources=repo.resources,
        )
        copy = same_weights(repo, stored.manifest, adapter=is_adapter)
        if copy is not None and not _means_the_same(repo, opened, copy):
            copy = None
        return CommittedSource(record.commit(stored, draft, made_as), found, copy)


def _means_the_same(repo: Repository, opened: OpenedSource, other: CommitId) -> bool:
    """False for an adapter with the factors of another one and another scale or rank in its settings."""
    if not opened.checkpoint.is_adapter:
        return True
    ours = parse_adapter_config(opened.checkpoint.read_small(ADAPTER_CONFIG) or b"")
    try:
        return ours == read_adapter_config(repo.objects, repo.manifest(other))
    except InvalidInputError:  # the other one is none of PEFT's
        return False


def _in_our_spelling(repo: Repository, opened: OpenedSource, previous: Manifest | None) -> Manifest | None:
    """The branch's earlier checkpoint under the names of this one, to code against."""
    if previous is None or holds_adapter(opened.checkpoint):
        return previous
    try:
        found = match(of_source(opened.checkpoint), of_manifest(repo.objects, previous))
    except InvalidInputError:
        return previous
    return respelled(previous, found)
