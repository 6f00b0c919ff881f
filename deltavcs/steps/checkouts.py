"""Writing what a revision or an expression names to a directory, over what an earlier checkout left there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from deltavcs.advice import Advice
from deltavcs.brief import brief
from deltavcs.checkpoint.file_identity import identity_in_view, stamp_of
from deltavcs.checkpoint.folder_plan import FolderPlan, owned_files, plan_folder
from deltavcs.checkpoint.layout import MARKER
from deltavcs.checkpoint.marker import Change, Marker, WrittenFile, encode_marker, read_state, write_marker
from deltavcs.checkpoint.output_folder import (
    change_folder,
    check_output,
    locked_folder,
    move_whole,
    new_draft,
    not_empty,
)
from deltavcs.checkpoint.overflow import OverflowWatch
from deltavcs.checkpoint.view import View, view_of
from deltavcs.checkpoint.writer import sync_files, write_draft
from deltavcs.errors import AlreadyExistsError, ConflictError, DeltaVCSError, ErrorKind, InvalidInputError
from deltavcs.interrupts import to_the_end
from deltavcs.oid import CommitId
from deltavcs.repo import Repository
from deltavcs.steps.targets import Target, located
from deltavcs.storage.file_calls import translate_os_errors


@dataclass(frozen=True, slots=True)
class CheckedOut:
    """A checkpoint that was written.

    Attributes:
        commit: None for what is no commit's content: an expression, dequantised weights.
        n_files, n_tensors, n_bytes: of the whole checkpoint.
        changed: files that were added or replaced.
        kept: files that were there with the right content, and were not touched.
        removed: files of an earlier checkout that the checkpoint does not have.
        stayed: likewise, but changed since, and so left there.
        dequantised: by revision, how what was dequantised is stored.
        overflowed: by tensor, how many finite values were written as Inf or NaN.
        notes: what folding an adapter made of its base, beside its weights; clauses.
    """

    path: Path
    commit: CommitId | None
    recipe: str
    n_files: int
    n_tensors: int
    n_bytes: int
    changed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    stayed: tuple[str, ...] = ()
    dequantised: Mapping[str, str] = field(default_factory=dict)
    overflowed: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    __repr__ = brief


def check_place(repo: Repository, output: Path, *, force: bool, update: bool = False) -> None:
    """Refuse a directory that holds something, or that is the repository's own.

    Args:
        update: it must hold an earlier checkout.

    Raises:
        AlreadyExistsError: `output-not-empty`.
        InvalidInputError: `bad-argument`.
    """
    try:
        check_output(output, force=force or update)
    except AlreadyExistsError as exc:
        if exc.kind is ErrorKind.OUTPUT_NOT_EMPTY and exc.advice is None and read_state(output) is not None:
            raise AlreadyExistsError(
                exc.message,
                kind=exc.kind,
                advice=Advice.UPDATE_CHECKOUT,
                facts={"directory": str(output)},
            ) from exc
        raise
    if output.resolve().is_relative_to(repo.path.resolve()):
        raise InvalidInputError(
            f"{output} is inside the repository's own directory",
            kind=ErrorKind.BAD_ARGUMENT,
            advice=Advice.NAME_OUTSIDE,
        )
    if update and read_state(output) is None:
        raise InvalidInputError(
            f"{output} holds no checkout that could be updated",
            kind=ErrorKind.BAD_ARGUMENT,
            advice=Advice.CHECK_OUT_FIRST,
        )


def write_target(
    repo: Repository, target: Target, output: Path, *, force: bool, update: bool = False
) -> CheckedOut:
    """Write a checkpoint, and a marker that says what was written.

    What an earlier checkout wrote and the checkpoint does not have is removed; files that have their content
    already are not touched. A crash at any moment leaves what the next forced checkout or update mends.

    Args:
        force: write into a directory that holds something, and replace files that are in the way, but no
            weights that are not as a checkout wrote them.
        update: as `force`, but nothing that was changed is replaced.

    Raises:
        AlreadyExistsError: `output-not-empty`.
        ConflictError: `locked` if another checkout into it is under way.
        IntegrityError: stored data is damaged; names the commit, and nothing is written.
    """
    watch = OverflowWatch(repo.objects.blobs)
    place = _Place(repo, target, output, output.absolute(), force or update, update, watch)
    try:
        plan = _write_over(place) if place.out.is_dir() else _write_new(place)
    except DeltaVCSError as exc:
        raise located(repo, target, exc) from exc
    view = target.view
    return CheckedOut(
        output, target.commit, target.recipe, len(view.files), len(view.tensors), view.size,
        plan.write, plan.keep, plan.remove, plan.stay, target.dequantised, watch.counts, target.notes,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Place:
    """What is written where, and over what."""

    repo: Repository
    target: Target
    named: Path
    out: Path
    may_hold: bool
    strict: bool
    watch: OverflowWatch

    def marker(self, files: Mapping[str, WrittenFile]) -> Marker:
        """The marker of the checkpoint with these files."""
        return Marker(self.target.commit or self.target.operands[0], self.target.text, files)

    def write(self, view: View, draft: Path) -> dict[str, str | None]:
        """Write files of the view; the identity of each."""
        computed = write_draft(
            self.repo.objects, view, draft, self.named, resources=self.repo.resources, watch=self.watch
        )
        return {f.path: identity_in_view(view, f, computed) for f in view.files}

    def noted(self, files: Mapping[str, str | None], folder: Path) -> dict[str, WrittenFile]:
        """What the marker says of files that lie in a folder."""
        return {p: WrittenFile(i, stamp_of(folder / p)) for p, i in files.items() if i is not None}


def _write_new(place: _Place) -> FolderPlan:
    """Write a directory that does not exist: nothing of it appears before all of it is written."""
    with new_draft(place.out, place.named) as draft:
        files = place.write(place.target.view, draft)
        with translate_os_errors(f"cannot write {place.named}"):
            (draft / MARKER).write_bytes(encode_marker(place.marker(place.noted(files, draft))))
        to_the_end(lambda: move_whole(draft, place.out, place.named))
    return FolderPlan(write=tuple(files))


def _write_over(place: _Place) -> FolderPlan:
    """Write into a directory that is there, which may be a mount point, a link, or the shell's own."""
    view, out = place.target.view, place.out
    with locked_folder(out, place.named):
        wanted = {f.path: identity_in_view(view, f, {}) for f in view.files}
        owned = _owned(place.repo, out)
        plan = plan_folder(out, owned, view, wanted, strict=place.strict)
        with new_draft(place.out, place.named) as draft:
            part = replace(view, files=tuple(f for f in view.files if f.path in set(plan.write)))
            wanted |= place.write(part, draft)
            if not place.may_hold and any(x != draft for x in out.iterdir()):
                raise not_empty(place.named)
            # Much may have happened meanwhile, and what was computed may be what is there.
            plan = plan_folder(out, owned, view, wanted, strict=place.strict)
            for path in plan.write:
                if not (draft / path).exists():
                    raise ConflictError(
                        f"{place.named / path} was changed while the checkout was written",
                        kind=ErrorKind.SOURCE_CHANGED,
                        advice=Advice.RUN_AGAIN,
                    )
            # Nothing is lost with what was never there before.
            durable = bool(owned) and place.repo.storage.sync
            if durable:
                sync_files(draft)
            to_the_end(lambda: _change(place, draft, plan, wanted, durable=durable))
    return plan


def _change(
    place: _Place, draft: Path, plan: FolderPlan, wanted: Mapping[str, str | None], *, durable: bool
) -> None:
    """Change the directory; the marker says first what may be there from now on, and last what is."""
    coming = {p: WrittenFile(i) for p, i in wanted.items() if i is not None}
    with translate_os_errors(f"cannot write {place.named}"):
        write_marker(place.out, Change(plan.have, place.marker(coming)), draft, durable=durable)
    change_folder(draft, place.out, plan, place.named, durable=durable)
    with translate_os_errors(f"cannot write {place.named}"):
        write_marker(place.out, place.marker(place.noted(wanted, place.out)), draft, durable=durable)


def _owned(repo: Repository, out: Path) -> dict[str, list[WrittenFile]]:
    """What checkouts wrote into a directory.

    A marker of an earlier version only names a commit: files with its content are taken for it.
    """
    state = read_state(out)
    if not isinstance(state, Marker) or state.files is not None:
        return owned_files(state)
    if not repo.objects.has(state.commit):
        return {}
    view = view_of(repo.manifest(state.commit))
    found = ((f.path, identity_in_view(view, f, {})) for f in view.files)
    return {path: [WrittenFile(identity)] for path, identity in found if identity is not None}
