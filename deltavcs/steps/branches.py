"""What a branch holds, and what may be put on top of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deltavcs.advice import Advice
from deltavcs.checkpoint.base_search import shares_enough
from deltavcs.checkpoint.matching import Matchable, match, of_manifest, of_source, of_view
from deltavcs.checkpoint.nearness import Readable, distance, of_contents, of_entries, of_tensors
from deltavcs.checkpoint.source import SourceCheckpoint
from deltavcs.checkpoint.view import View
from deltavcs.errors import AlreadyExistsError, ErrorKind, InvalidInputError
from deltavcs.objects.model import Kind, Manifest
from deltavcs.objects.store import ObjectStore
from deltavcs.repo import Repository
from deltavcs.steps.recording import Draft, tip_of

# Independent weights lie at √2; the checkpoints of one run, however it went, do not come near that.
_UNRELATED = 0.9
_HOLDS = {
    Kind.BASE: "a base",
    Kind.FINETUNE: "a fine-tune",
    Kind.ADAPTER: "an adapter",
    Kind.TRANSFER: "a transfer",
    Kind.MERGE: "a merge",
}


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A checkpoint that is to become the next commit of a branch."""

    kind: Kind
    matchable: Matchable
    tensors: Mapping[str, Readable]

    @classmethod
    def of_source(cls, source: SourceCheckpoint, kind: Kind) -> Newcomer:
        """What lies on disk."""
        return cls(kind, of_source(source), of_tensors(source))

    @classmethod
    def of_view(cls, objects: ObjectStore, view: View, kind: Kind) -> Newcomer:
        """What is computed."""
        return cls(kind, of_view(objects, view), of_contents(objects, view))


def check_branch(repo: Repository, draft: Draft, new: Newcomer) -> None:
    """Refuse to put a checkpoint on top of one of another kind or of unrelated weights; a draft can force it.

    Raises:
        AlreadyExistsError: `ref-exists`, saying what the branch holds.
    """
    check_kind(repo, draft, new.kind)
    assert draft.name is not None
    tip = tip_of(repo, draft.name)
    if tip is None or draft.force:
        return
    held = repo.commit(tip).kind
    why = "" if held is Kind.ADAPTER else _unrelated(repo.objects, new, repo.manifest(tip))
    if why:
        raise _refused(draft.name, f"holds {_HOLDS[held]} of another model: {why}")


def check_kind(repo: Repository, draft: Draft, *kinds: Kind) -> None:
    """Refuse a branch that holds another kind than any of these, before anything is computed.

    Adapters, bases, and whole checkpoints made from bases are three kinds that no branch mixes.

    Raises:
        AlreadyExistsError: `ref-exists`, saying what the branch holds.
    """
    assert draft.name is not None
    tip = tip_of(repo, draft.name)
    if tip is None or draft.force:
        return
    held = repo.commit(tip).kind
    if _sort(held) not in map(_sort, kinds):
        raise _refused(draft.name, f"holds {_HOLDS[held]}, and this is {_HOLDS[kinds[0]]}")


def _sort(kind: Kind) -> Kind:
    return kind if kind in (Kind.BASE, Kind.ADAPTER) else Kind.FINETUNE


def _unrelated(objects: ObjectStore, new: Newcomer, tip: Manifest) -> str:
    """Why two checkpoints are of different models; empty if they may be of one."""
    if not new.tensors or not tip.primary:
        return ""
    try:
        found = match(new.matchable, of_manifest(objects, tip))
    except InvalidInputError as exc:
        return str(exc)
    if not shares_enough(found):
        n_ours, n_theirs = len(found.names) + len(found.only_ours), len(tip.primary)
        return f"{len(found.names)} of {n_ours} tensors are among its {n_theirs}"
    away = distance(new.tensors, of_entries(objects, tip), found.names)
    if away is None or away <= _UNRELATED:
        return ""
    return f"the weights are unrelated (relative distance {away:.2f})"


def _refused(name: str, why: str) -> AlreadyExistsError:
    return AlreadyExistsError(
        f"the branch {name} {why}",
        kind=ErrorKind.REF_EXISTS,
        advice=Advice.OTHER_BRANCH_OR_FORCE,
        facts={"name": name},
    )
