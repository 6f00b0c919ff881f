"""The directory that a checkout writes: filled or changed when all that goes into it is written."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from deltavcs.advice import Advice
from deltavcs.checkpoint.folder_plan import FolderPlan, leads_elsewhere
from deltavcs.checkpoint.layout import draft_name, is_draft
from deltavcs.errors import AlreadyExistsError, ConflictError, ErrorKind, StorageError
from deltavcs.interrupts import to_the_end
from deltavcs.storage.file_calls import os_error, sync_directory, translate_os_errors


def check_output(out: Path, *, force: bool) -> None:
    """Refuse to write into a directory that holds something.

    Raises:
        AlreadyExistsError: `output-not-empty`.
    """
    if not os.path.lexists(out) or (force and out.is_dir()):
        return
    if not out.exists():
        raise AlreadyExistsError(
            f"{out} is a link to what is not there",
            kind=ErrorKind.OUTPUT_NOT_EMPTY,
            advice=Advice.REMOVE_LINK,
        )
    if not out.is_dir():
        raise AlreadyExistsError(
            f"{out} is a file", kind=ErrorKind.OUTPUT_NOT_EMPTY, advice=Advice.NAME_DIRECTORY
        )
    if any(out.iterdir()):
        raise not_empty(out)


def not_empty(out: Path) -> AlreadyExistsError:
    """The error for a directory that holds something; `out` as the user wrote it."""
    return AlreadyExistsError(
        f"{out} is not empty",
        kind=ErrorKind.OUTPUT_NOT_EMPTY,
    )


@contextlib.contextmanager
def new_draft(out: Path, named: Path) -> Iterator[Path]:
    """A new folder on the file system of `out`, gone afterwards.

    Beside a directory that is yet to be made; within one that is there, which may be a mount point, a link,
    or the shell's own, and so must not be replaced. It is locked, so that nobody takes it for left over.
    """
    with translate_os_errors(f"cannot create {named}"):
        folder = out if out.is_dir() else out.parent
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / draft_name()
        draft.mkdir()
    lock = -1
    try:
        lock = _lock(draft)
        yield draft
    finally:
        to_the_end(lambda: shutil.rmtree(draft, ignore_errors=True))
        if lock >= 0:
            os.close(lock)


def _lock(folder: Path) -> int:
    """Lock a folder until what is given back is closed. Raises BlockingIOError if another process has it."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise
    except OSError:  # a file system without locks
        pass
    return fd


def move_whole(draft: Path, out: Path, named: Path) -> None:
    """Rename a draft beside `out` to it; begun again, it does nothing more.

    Args:
        named: `out` as the user wrote it.
    """
    if not draft.exists():
        return
    try:
        draft.replace(out)
    except OSError as exc:
        # Somebody else made it meanwhile, and put something there.
        raise not_empty(named) if out.exists() else os_error(f"cannot write {named}", exc) from exc


@contextlib.contextmanager
def locked_folder(out: Path, named: Path) -> Iterator[None]:
    """Keep other checkouts from a directory, and clear away the drafts of those that were killed.

    Raises:
        ConflictError: `locked` if one is under way.
    """
    with translate_os_errors(f"cannot open {named}"):
        try:
            fd = _lock(out)
        except BlockingIOError as exc:
            raise ConflictError(
                f"another checkout into {named} is under way", kind=ErrorKind.LOCKED, advice=Advice.RUN_AGAIN
            ) from exc
    try:
        for left in (x for x in out.iterdir() if is_draft(x.name)):
            with contextlib.suppress(OSError):  # in use, or gone
                os.close(_lock(left))
                shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        os.close(fd)


def change_folder(draft: Path, out: Path, plan: FolderPlan, named: Path, *, durable: bool) -> None:
    """Remove what a plan removes and rename what it writes from `draft`; begun again, it goes on.

    Every file is replaced in one step and never written to, so that other links to it keep their content.

    Args:
        named: `out` as the user wrote it.
        durable: wait for the disk.
    """
    for path in plan.remove:
        at = out / path
        if not leads_elsewhere(out, path):
            with translate_os_errors(f"cannot remove {named / path}"):
                at.unlink(missing_ok=True)
    for path in plan.gone:
        _remove_empty(out, path)
    for path in plan.write:  # folders first: making one may fail, for want of room or of permission
        _make_parents(out, path, named)
    for done, path in enumerate(plan.write):
        source, target = draft / path, out / path
        try:
            if source.exists():
                if target.is_dir() and not target.is_symlink():
                    target.rmdir()
                source.replace(target)
        except OSError as exc:
            raise StorageError(
                f"cannot write {named / path}: {exc.strerror or exc}; "
                f"{done} of {len(plan.write)} files are in place",
                kind=ErrorKind.IO,
                advice=Advice.MEND_AND_FORCE,
            ) from exc
    with translate_os_errors(f"cannot write {named}"):
        for folder in {(out / path).parent for path in plan.write} if durable else ():
            sync_directory(folder)


def _make_parents(out: Path, path: str, named: Path) -> None:
    at = out
    for part in PurePosixPath(path).parts[:-1]:
        at /= part
        with translate_os_errors(f"cannot create {named / at.relative_to(out)}"):
            # A link is replaced, not followed: it may lead out of the directory.
            if at.is_symlink() or (os.path.lexists(at) and not at.is_dir()):
                at.unlink()
            at.mkdir(exist_ok=True)


def _remove_empty(out: Path, path: str) -> None:
    """Remove the folders of a file that is gone, as long as nothing else is in them."""
    for parent in PurePosixPath(path).parents:
        if str(parent) == "." or leads_elsewhere(out, f"{parent}/x"):
            return
        try:
            (out / parent).rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return
