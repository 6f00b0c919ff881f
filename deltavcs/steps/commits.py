"""Committing a trained checkpoint against its base."""

from __future__ import annotations

from collections.abc import Sequence

from deltavcs.checkpoint.ingest import ingest
from deltavcs.objects.model import Kind, Parent, Role
from deltavcs.repo import Repository
from deltavcs.steps.adapter_bases import foreign_lora_of
from deltavcs.steps.bases import Base, check_fits
from deltavcs.steps.recording import Draft, MadeAs, Recorded, recording
from deltavcs.steps.sources import OpenedSource


def commit_source(
    repo: Repository, opened: OpenedSource, base: Base, draft: Draft, *, parents: Sequence[Parent] = ()
) -> Recorded:
    """Store a checkpoint as a change to its base, and commit it to the draft's branch.

    Args:
        draft: signed, with a name.
        parents: beside the base, what training went on from, and the branch's earlier commit.

    Raises:
        InvalidInputError: `incompatible` if its tensors are not those of the base.
    """
    check_fits(repo, opened.checkpoint, base)
    assert draft.name is not None
    own = [Parent(base.commit, Role.BASE), *([Parent(base.init, Role.INIT)] if base.init is not None else [])]
    is_adapter = opened.checkpoint.is_adapter or foreign_lora_of(opened.checkpoint) is not None
    made_as = MadeAs(
        kind=Kind.ADAPTER if is_adapter else Kind.FINETUNE,
        base=base.commit,
        parents=(*own, *parents),
        source=opened.origin,
    )
    with recording(repo, draft.name) as record:
        stored = ingest(
            record.transaction,
            opened.checkpoint,
            base=repo.manifest(base.commit),
            previous=record.previous,
            resources=repo.resources,
        )
        return record.commit(stored, draft, made_as)
