"""A fine-tune or an adapter, stored against its base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deltavcs.advice import Advice
from deltavcs.brief import brief
from deltavcs.checkpoint.findings import Findings
from deltavcs.checkpoint.ingest import check_weights
from deltavcs.checkpoint.intake import Intake
from deltavcs.checkpoint.quantised import describe, quantisations_of
from deltavcs.checkpoint.source import SourceCheckpoint
from deltavcs.errors import DeltaVCSError, ErrorKind, InvalidInputError
from deltavcs.objects.model import Kind, Parent, Role, check_role
from deltavcs.oid import CommitId
from deltavcs.repo import Repository
from deltavcs.steps.adapter_checks import holds_adapter, read_adapter
from deltavcs.steps.arguments import several
from deltavcs.steps.bases import find_base, measured
from deltavcs.steps.branches import Newcomer, check_branch
from deltavcs.steps.commits import commit_source
from deltavcs.steps.found_base import Base
from deltavcs.steps.naming import name_of
from deltavcs.steps.recording import Draft, Recorded, tip_of
from deltavcs.steps.sources import branch_for, open_source, readable


@dataclass(frozen=True, slots=True)
class Committed:
    """A fine-tune that was committed.

    Attributes:
        changed_share: share of the weights that differ from the base; None if nothing was compared.
        findings: what there is to say of the source: what was left out, what does not agree.
        names_differ: how its names differ from the base's, as a clause; empty if they do not.
        new_tensors: tensors that the base lacks.
        missing_tensors: tensors of the base that it lacks.
        copy_of: what had these very weights before; None if they are new.
        converted: weight files that were converted from pickle.
        quantised_base: of an adapter, the scheme of its base; empty for a plain one.
        adapter_type: such as `LORA (DoRA)` or `IA3`; empty for a whole checkpoint.
        adapter_notes: why it cannot be folded, and what of it is no number; clauses.
    """

    recorded: Recorded
    base: Base
    changed_share: float | None
    findings: Findings
    converted: tuple[str, ...]
    quantised_base: str = ""
    names_differ: str = ""
    new_tensors: tuple[str, ...] = ()
    missing_tensors: tuple[str, ...] = ()
    copy_of: str | None = None
    adapter_type: str = ""
    adapter_notes: tuple[str, ...] = ()

    __repr__ = brief


def commit(
    repo: Repository,
    source: str,
    *,
    base: str | None = None,
    draft: Draft | None = None,
    parents: Sequence[str] = (),
    origin: Mapping[str, str] | None = None,
    intake: Intake | None = None,
    allow_pickle: bool = False,
) -> Committed:
    """Commit a fine-tune.

    Args:
        source: a directory, a `.safetensors` file, or `hf://ORG/NAME[@REVISION]`.
        base: revision it was trained from. Without it the base is found: from the marker that a
            checkout left, from the branch's earlier commits, or from the weights.
        draft: branch, by default called as the source; message, task and metadata.
        parents: further parents, `REVISION` or `REVISION:ROLE`.
        origin: where the bytes came from, if `source` is only a copy.
        intake: which files of the source are taken; by default all but what trainers and editors leave.
        allow_pickle: convert `.bin` and `.pt` weights through `torch.load(weights_only=True)`.

    Raises:
        InvalidInputError: `base-unknown` with the nearest candidates and why each fails;
            `incompatible` if tensors do not fit the base; `bad-checkpoint` if the source is incomplete.
        AlreadyExistsError: `ref-exists` if the branch holds another kind, or unrelated weights.
        NotFoundError: an unknown source or revision.
    """
    source = str(source)
    draft = (draft or Draft()).signed(repo, f"commit {readable(source)}")
    branch = branch_for(source, draft.name)
    given = Base(repo.resolve(base), base, "given") if base is not None else None
    further = tuple(_parent(repo, text) for text in several(parents, "parents"))
    tip = tip_of(repo, branch)
    with open_source(repo, source, intake=intake, allow_pickle=allow_pickle) as opened:
        kind = _kind_of(opened.checkpoint)
        draft = replace(draft, name=branch)
        check_branch(repo, draft, Newcomer.of_source(opened.checkpoint, kind))
        known = given and measured(repo, opened.checkpoint, given)
        found = known or find_base(repo, opened.checkpoint, Path(source), tip)
        opened = opened if origin is None else replace(opened, origin=dict(origin))
        made = commit_source(repo, opened, found, draft, parents=further)
        adapter_type, notes = read_adapter(repo, opened.checkpoint, found.commit, made.recorded.commit)
    return Committed(
        made.recorded,
        found,
        _changed_share(repo, made.recorded.commit),
        opened.checkpoint.findings,
        opened.converted,
        quantised_base=_scheme_below(repo, kind, found),
        names_differ=made.found.describe() if made.found is not None else "",
        new_tensors=made.found.only_ours if made.found is not None else (),
        missing_tensors=made.found.only_theirs if made.found is not None else (),
        copy_of=name_of(repo, made.copy_of) if made.copy_of is not None else None,
        adapter_type=adapter_type,
        adapter_notes=notes,
    )


def _kind_of(checkpoint: SourceCheckpoint) -> Kind:
    """What a source is. Raises InvalidInputError: `bad-checkpoint` if a whole checkpoint has no weights."""
    if holds_adapter(checkpoint):
        return Kind.ADAPTER
    check_weights(checkpoint)
    return Kind.FINETUNE


def _scheme_below(repo: Repository, kind: Kind, base: Base) -> str:
    """How the base of an adapter is quantised; empty if it is not."""
    return (
        describe(quantisations_of(repo.objects, repo.manifest(base.commit))) if kind is Kind.ADAPTER else ""
    )


def _changed_share(repo: Repository, commit_id: CommitId) -> float | None:
    stats = repo.commit(commit_id).stats
    return repo.objects.get_stats(stats).changed_share if stats is not None else None


def _parent(repo: Repository, text: str) -> Parent:
    revision, _, role = text.rpartition(":")
    if not revision:
        revision, role = text, "parent"
    try:
        check_role(role)
    except DeltaVCSError as exc:
        raise InvalidInputError(
            f"{role!r} is not a role", kind=ErrorKind.BAD_ARGUMENT, advice=Advice.WRITE_PARENT
        ) from exc
    if role in (Role.BASE, Role.PREVIOUS):
        raise InvalidInputError(
            f"{text!r}: a commit finds its {role} parent by itself",
            kind=ErrorKind.BAD_ARGUMENT,
            advice=Advice.PARENT_BY_ITSELF,
        )
    return Parent(repo.resolve(revision), role)
