"""`dvx commit`: a fine-tune or an adapter, stored against its base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deltavcs.checkpoint import layout as names
from deltavcs.checkpoint.adapter import match_adapter, parse_adapter_config
from deltavcs.checkpoint.base_search import PossibleBase, judge_bases
from deltavcs.checkpoint.ingest import ingest
from deltavcs.checkpoint.marker import read_marker
from deltavcs.checkpoint.mismatch import mismatch
from deltavcs.checkpoint.source import SourceCheckpoint
from deltavcs.errors import DeltaVCSError, ErrorKind, InvalidInputError
from deltavcs.history.walk import walk
from deltavcs.objects.model import Commit, Kind, Manifest, Parent, Role, TensorEntry, check_role
from deltavcs.oid import BlobId, CommitId
from deltavcs.porcelain.import_ import default_name, open_source
from deltavcs.refs import check_name
from deltavcs.repo import Repository
from deltavcs.resources import Resources
from deltavcs.signature import Signature
from deltavcs.steps.naming import name_of, tips
from deltavcs.steps.recording import EMPTY, Recorded, record, tip_of

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Base:
    """The base of a fine-tune and how it was found: `given`, `marker`, `previous` or `inferred`.

    Attributes:
        distance: relative distance of the sampled weights, if it was inferred.
        init: the adapter that training went on from; it sits on the base, so it cannot be one.
    """

    commit: CommitId
    name: str
    how: str
    distance: float | None = None
    init: CommitId | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """A fine-tune that was committed."""

    recorded: Recorded
    base: Base
    changed_share: float | None
    skipped: tuple[str, ...]
    converted: tuple[str, ...]


def commit(
    repo: Repository,
    source: str,
    *,
    base: str | None = None,
    name: str | None = None,
    message: str = "",
    task: str | None = None,
    metadata: Mapping[str, str] | None = None,
    parents: Sequence[str] = (),
    origin: Mapping[str, str] | None = None,
    allow_pickle: bool = False,
    signature: Signature,
    resources: Resources | None = None,
) -> Committed:
    """Commit a fine-tune.

    Args:
        source: a directory, a `.safetensors` file, or `hf://ORG/NAME[@REVISION]`.
        base: revision it was trained from. Without it the base is found: from the marker that a
            checkout left, from the branch's earlier commits, or from the weights.
        name: branch to commit to; by default that of the source.
        parents: further parents, `REVISION` or `REVISION:ROLE`.
        origin: where the bytes came from, if `source` is only a copy.

    Raises:
        InvalidInputError: `base-unknown` with the nearest candidates and why each fails;
            `incompatible` if tensors do not fit the base.
        NotFoundError: an unknown source or revision.
    """
    resources = resources or Resources()
    branch = check_name(default_name(source) if name is None else name)
    given = repo.resolve_named(base) if base is not None else None
    extra = tuple(_parent(repo, text) for text in parents)
    tip = tip_of(repo, branch)
    with open_source(repo, source, allow_pickle=allow_pickle) as opened:
        checkpoint = opened.checkpoint
        if given is not None:
            found = Base(given.commit, given.revision, "given")
        else:
            found = find_base(repo, checkpoint, Path(source), tip)
        manifest = repo.manifest(found.commit)
        _check_fits(repo, checkpoint, manifest, found)
        draft = Commit(
            kind=Kind.ADAPTER if checkpoint.is_adapter else Kind.FINETUNE,
            manifest=EMPTY,
            parents=(Parent(found.commit, Role.BASE), *_init_parent(found), *extra),
            message=message,
            author=signature.author,
            time=signature.time,
            task=task,
            metadata=dict(metadata or {}),
            source=dict(origin) if origin is not None else opened.origin,
        )
        previous = repo.manifest(tip) if tip else None
        recorded = record(
            repo,
            branch,
            draft,
            lambda tx: ingest(tx, checkpoint, base=manifest, previous=previous, resources=resources),
            base=found.commit,
            signature=signature,
            resources=resources,
        )
        share = changed_share(repo, recorded.commit)
        return Committed(recorded, found, share, tuple(checkpoint.skipped), opened.converted)


def changed_share(repo: Repository, commit_id: CommitId) -> float | None:
    """Share of the weights that differ from the base; None if nothing was compared."""
    stats = repo.commit(commit_id).stats
    if stats is None:
        return None
    parts = repo.objects.get_stats(stats).tensors.values()
    elements = sum(s.elements for s in parts)
    return sum(s.changed for s in parts) / elements if elements else None


def _init_parent(found: Base) -> tuple[Parent, ...]:
    return () if found.init is None else (Parent(found.init, "init"),)


def _parent(repo: Repository, text: str) -> Parent:
    revision, _, role = text.rpartition(":")
    if not revision:
        revision, role = text, "parent"
    try:
        check_role(role)
    except DeltaVCSError as exc:
        raise InvalidInputError(
            f"{role!r} is not a role", kind=ErrorKind.BAD_ARGUMENT, hint="Write --parent REV or REV:ROLE."
        ) from exc
    if role in (Role.BASE, Role.PREVIOUS):
        raise InvalidInputError(
            f"{text!r}: a commit finds its {role} parent by itself",
            kind=ErrorKind.BAD_ARGUMENT,
            hint="Name the base with --base, and the branch that this continues with --as.",
        )
    return Parent(repo.resolve(revision), role)


def find_base(repo: Repository, checkpoint: SourceCheckpoint, source: Path, tip: CommitId | None) -> Base:
    """Find the base of a checkpoint.

    Raises:
        InvalidInputError: `base-unknown`.
    """
    marker = read_marker(source) if source.is_dir() else None
    if marker is not None and repo.objects.has(marker.commit):
        value = repo.commit(marker.commit)
        below = value.parent_as(Role.BASE) if value.kind is Kind.ADAPTER else None
        if below is not None:
            return Base(below, name_of(repo, below), "marker", init=marker.commit)
        return Base(marker.commit, name_of(repo, marker.commit), "marker")
    if tip is not None:
        of_tip = repo.commit(tip).parent_as(Role.BASE)
        if of_tip is not None:
            return Base(of_tip, name_of(repo, of_tip), "previous")
    if checkpoint.is_adapter:
        return _base_of_adapter(repo, checkpoint)
    candidates = judge_bases(repo.objects, checkpoint, _candidates(repo))
    if not candidates or candidates[0].why:
        raise _unknown_base(repo, checkpoint, candidates)
    best = candidates[0]
    return Base(best.commit, name_of(repo, best.commit), "inferred", best.distance)


def _candidates(repo: Repository) -> Iterator[tuple[CommitId, Manifest]]:
    """Every checkpoint of the history once, adapters left out."""
    seen = set()
    for commit_id, value in walk(repo.objects, tips(repo)):
        if value.kind is not Kind.ADAPTER and value.manifest not in seen:
            seen.add(value.manifest)
            yield commit_id, repo.objects.get_manifest(value.manifest)


def _base_of_adapter(repo: Repository, checkpoint: SourceCheckpoint) -> Base:
    """The only checkpoint that has the modules an adapter changes."""
    adapter = _as_manifest(checkpoint)
    fitting = []
    for commit_id, manifest in _candidates(repo):
        if repo.commit(commit_id).kind is Kind.BASE:
            try:
                match_adapter(adapter, manifest)
            except InvalidInputError:
                continue
            fitting.append(commit_id)
    if len(fitting) == 1:
        return Base(fitting[0], name_of(repo, fitting[0]), "inferred")
    names_ = ", ".join(name_of(repo, c) for c in fitting)
    raise InvalidInputError(
        f"cannot tell the base of the adapter {checkpoint.root}: "
        + (f"it fits {names_}" if fitting else "it fits no base of the repository"),
        kind=ErrorKind.BASE_UNKNOWN,
        hint="Name it with --base REV.",
    )


def _as_manifest(checkpoint: SourceCheckpoint) -> Manifest:
    """Names and shapes only; the blobs are not stored yet."""
    nothing = BlobId("0" * 64)
    return Manifest((), {k: TensorEntry(nothing, t.dtype, t.shape) for k, t in checkpoint.tensors.items()})


def _unknown_base(
    repo: Repository, checkpoint: SourceCheckpoint, candidates: Sequence[PossibleBase]
) -> InvalidInputError:
    shown = "; ".join(f"{name_of(repo, c.commit)}: {c.why}" for c in candidates[:_SHOWN])
    if not candidates:
        return InvalidInputError(
            f"cannot tell the base of {checkpoint.root}: the repository is empty",
            kind=ErrorKind.BASE_UNKNOWN,
            hint="Import the base first: dvx import DIR --as NAME.",
        )
    return InvalidInputError(
        f"cannot tell the base of {checkpoint.root}; the nearest candidates: {shown}",
        kind=ErrorKind.BASE_UNKNOWN,
        hint="Name it with --base REV, or import it as a base with 'dvx import'.",
    )


def _check_fits(repo: Repository, checkpoint: SourceCheckpoint, manifest: Manifest, base: Base) -> None:
    """Refuse a base whose tensors are not those of the fine-tune.

    Raises:
        InvalidInputError: `incompatible`.
    """
    if repo.commit(base.commit).kind is Kind.ADAPTER:
        raise InvalidInputError(f"{base.name} is an adapter, not a base", kind=ErrorKind.INCOMPATIBLE)
    if checkpoint.is_adapter:
        config = checkpoint.read_small(names.ADAPTER_CONFIG)
        parse_adapter_config(config or b"")
        match_adapter(_as_manifest(checkpoint), manifest)
        return
    found = mismatch(checkpoint, manifest)
    common = manifest.primary.keys() & checkpoint.tensors.keys()
    # A fine-tune may add or drop a tensor (a tied head, a new classifier); it cannot share none, or
    # have other shapes under the same names.
    if found.shapes or len(common) * 2 < len(manifest.primary):
        raise InvalidInputError(
            f"{checkpoint.root} does not fit the base {base.name}: {found.describe()}",
            kind=ErrorKind.INCOMPATIBLE,
            hint="Name the right base with --base, or import it as a base of its own with 'dvx import'.",
        )
