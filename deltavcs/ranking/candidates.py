"""Which checkpoints can be compared and merged: same architecture and shapes, or same kind of adapter.

Mashup Learning §3: checkpoints "must share the same architecture as the target model. For LoRA-based models,
hyperparameters such as target modules, rank, and α must also match".
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from deltavcs.adapters.adapter_config import adapter_config_of
from deltavcs.advice import Advice
from deltavcs.checkpoint import layout as names
from deltavcs.checkpoint.quantised import check_arithmetic
from deltavcs.errors import DeltaVCSError, ErrorKind, InvalidInputError
from deltavcs.evaluation.architecture import architecture_digest, tensor_shapes, whole_keys
from deltavcs.history.walk import walk
from deltavcs.objects.model import Commit, Kind, Manifest, Role
from deltavcs.objects.store import ObjectStore
from deltavcs.oid import CommitId, ManifestId

# A merge or a transfer carries what its parents were trained on; an earlier checkpoint of the same branch
# may have been trained on anything, and the source base gives nothing of itself.
_INHERITING = frozenset({Role.BASE, Role.DELTA, Role.INPUT, Role.INIT})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A checkpoint of the history.

    Attributes:
        group: checkpoints of one group have the same architecture and shapes (adapters: base, rank, alpha
            and targets), so that they can be merged.
        model_key: candidates of one key run in one model instance by swapping tensors.
        base: what it was trained from or added to; None for a base.
        below: manifest of the base if a score depends on it: an adapter's, or one whose tokenizer is used.
        trained_on: tasks that went into it, also through its parents.
    """

    commit: CommitId
    manifest: ManifestId
    kind: Kind
    task: str | None
    base: CommitId | None
    below: ManifestId | None
    group: str
    model_key: str
    trained_on: frozenset[str]

    @property
    def is_adapter(self) -> bool:
        """True for an adapter."""
        return self.kind is Kind.ADAPTER


@dataclass(frozen=True, slots=True)
class Unusable:
    """A checkpoint that cannot be evaluated, and why."""

    commit: CommitId
    why: str


def find_candidates(
    objects: ObjectStore, tips: Collection[CommitId], *, last_only: bool = False
) -> Iterator[Candidate | Unusable]:
    """Every distinct checkpoint that `tips` reach, newest first.

    Args:
        last_only: leave out checkpoints that a later one of the same branch follows.
    """
    history = dict(walk(objects, tips))
    superseded = {p for value in history.values() for p in value.parents_as(Role.PREVIOUS)}
    reader = _Reader(objects, history)
    seen: set[tuple[ManifestId, ManifestId | None]] = set()
    for commit_id, value in history.items():
        # Prefer the commit that a branch names over an older one with the same content: walk is newest first.
        whole = (value.manifest, reader.base_manifest(value))
        if whole in seen or (last_only and commit_id in superseded and commit_id not in tips):
            continue
        seen.add(whole)
        try:
            found = reader.candidate(commit_id, value)
            content = (found.manifest, found.below)
            if content == whole or content not in seen:
                seen.add(content)
                yield found
        except DeltaVCSError as exc:
            if exc.kind not in (ErrorKind.BAD_CHECKPOINT, ErrorKind.INCOMPATIBLE, ErrorKind.QUANTISED):
                raise
            yield Unusable(commit_id, str(exc))


class _Reader:
    """Reads what identifies a candidate's architecture; remembers manifests of bases."""

    def __init__(self, objects: ObjectStore, history: dict[CommitId, Commit]) -> None:
        self._objects = objects
        self._history = history
        self._trained_on: dict[CommitId, frozenset[str]] = {}

    def base_manifest(self, value: Commit) -> ManifestId | None:
        """Content of a commit's base."""
        base = value.parent_as(Role.BASE)
        if base is None:
            return None
        below = self._history.get(base)
        return (below if below is not None else self._objects.get_commit(base)).manifest

    def candidate(self, commit_id: CommitId, value: Commit) -> Candidate:
        """What identifies a commit. Raises InvalidInputError: `bad-checkpoint`."""
        base = value.parent_as(Role.BASE)
        manifest = self._objects.get_manifest(value.manifest)
        below = self.base_manifest(value)
        check_arithmetic(self._objects, manifest, "it", advice=Advice.CHECK_OUT_DEQUANTIZED)
        if value.kind is Kind.ADAPTER:
            if below is not None:
                under = self._objects.get_manifest(below)
                check_arithmetic(self._objects, under, "its base", advice=Advice.FOLD_UNQUANTISED)
            group, model_key = self._adapter_keys(manifest, below)
        else:
            group, model_key = whole_keys(self._objects, manifest)
            if names.holds_tokenizer(f.path for f in manifest.files):
                below = None
        trained_on = self._tasks(commit_id)
        return Candidate(
            commit_id, value.manifest, value.kind, value.task, base, below, group, model_key, trained_on
        )

    def _adapter_keys(self, manifest: Manifest, below: ManifestId | None) -> tuple[str, str]:
        if below is None:
            raise InvalidInputError("the adapter has no base", kind=ErrorKind.BAD_CHECKPOINT)
        config = adapter_config_of(self._objects, manifest)
        settings = [
            below,
            config.rank,
            config.alpha,
            config.rslora,
            config.target_modules,
            dict(config.rank_pattern),
            dict(config.alpha_pattern),
            tensor_shapes(manifest),
        ]
        key = architecture_digest(settings)
        return key, key

    def _tasks(self, commit_id: CommitId) -> frozenset[str]:
        """Tasks of a commit and of what it inherits from, without recursion."""
        todo = [commit_id]
        while todo:
            at = todo[-1]
            value = self._history.get(at) or self._objects.get_commit(at)
            parents = [p.commit for p in value.parents if p.role in _INHERITING]
            waiting = [p for p in parents if p not in self._trained_on]
            if waiting:
                todo += waiting
                continue
            own = frozenset({value.task} if value.task else ())
            self._trained_on[at] = own.union(*(self._trained_on[p] for p in parents))
            todo.pop()
        return self._trained_on[commit_id]
