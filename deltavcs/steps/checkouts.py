"""Writing what a revision or an expression names to a directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deltavcs.advice import Advice
from deltavcs.brief import brief
from deltavcs.checkpoint.layout import MARKER
from deltavcs.checkpoint.marker import Marker, encode_marker
from deltavcs.checkpoint.output_folder import check_output
from deltavcs.checkpoint.writer import write_view
from deltavcs.errors import DeltaVCSError, ErrorKind, InvalidInputError
from deltavcs.oid import CommitId
from deltavcs.repo import Repository
from deltavcs.steps.targets import Target, located


@dataclass(frozen=True, slots=True)
class CheckedOut:
    """A checkpoint that was written.

    Attributes:
        commit: None for what is no commit's content: an expression, dequantised weights.
        dequantised: by revision, how what was dequantised is stored.
        notes: what folding an adapter made of its base, beside its weights; clauses.
    """

    path: Path
    commit: CommitId | None
    recipe: str
    n_files: int
    n_tensors: int
    n_bytes: int
    dequantised: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    __repr__ = brief


def check_place(repo: Repository, output: Path, *, force: bool) -> None:
    """Refuse a directory that holds something, or that is the repository's own.

    Raises:
        AlreadyExistsError: `output-not-empty`.
        InvalidInputError: `bad-argument`.
    """
    check_output(output, force=force)
    if output.resolve().is_relative_to(repo.path.resolve()):
        raise InvalidInputError(
            f"{output} is inside the repository's own directory",
            kind=ErrorKind.BAD_ARGUMENT,
            advice=Advice.NAME_OUTSIDE,
        )


def write_target(repo: Repository, target: Target, output: Path, *, force: bool) -> CheckedOut:
    """Write a checkpoint, and a marker that says what was written.

    Raises:
        AlreadyExistsError: `output-not-empty`.
        IntegrityError: stored data is damaged; names the commit, and nothing is written.
    """
    commit = target.commit or target.operands[0]
    extra = {MARKER: encode_marker(Marker(commit, target.text))}
    try:
        n_bytes = write_view(
            repo.objects, target.view, output, resources=repo.resources, force=force, extra=extra
        )
    except DeltaVCSError as exc:
        raise located(repo, target, exc) from exc
    return CheckedOut(
        output,
        target.commit,
        target.recipe,
        len(target.view.files),
        len(target.view.tensors),
        n_bytes,
        target.dequantised,
        target.notes,
    )
