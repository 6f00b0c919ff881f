"""The directory that a checkout writes: refused if it holds something, filled at once when all is written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from deltavcs.advice import Advice
from deltavcs.checkpoint.layout import draft_name
from deltavcs.errors import AlreadyExistsError, ErrorKind, StorageError
from deltavcs.storage.file_calls import os_error, translate_os_errors


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


def make_draft(out: Path) -> Path:
    """A new folder on the file system of `out`.

    Beside a directory that is yet to be made; within one that is there, which may be a mount point, a link,
    or the shell's own, and so must not be replaced.
    """
    folder = out if out.is_dir() else out.parent
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / draft_name()
    draft.mkdir()
    return draft


def move_into_place(draft: Path, out: Path, named: Path) -> None:
    """Rename what is in `draft`; begun again, it goes on with what is still there.

    Args:
        named: `out` as the user wrote it.
    """
    if not draft.exists():
        return
    if draft.parent != out:
        try:
            draft.replace(out)
        except OSError as exc:
            # Somebody else made it meanwhile, and put something there.
            raise not_empty(named) if out.exists() else os_error(f"cannot write {named}", exc) from exc
        return
    found = sorted(draft.rglob("*"))
    # Folders first: making one may fail, for want of room or of permission, when nothing is in place yet.
    for path in (x for x in found if x.is_dir()):
        target = out / path.relative_to(draft)
        with translate_os_errors(f"cannot create {named / path.relative_to(draft)}"):
            # A link is replaced, not followed: it may lead out of the directory.
            if target.is_symlink() or (os.path.lexists(target) and not target.is_dir()):
                target.unlink()
            target.mkdir(exist_ok=True)
    files = [x for x in found if not x.is_dir()]
    for done, path in enumerate(files):
        target = out / path.relative_to(draft)
        try:
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            path.replace(target)
        except OSError as exc:
            raise StorageError(
                f"cannot write {named / path.relative_to(draft)}: {exc.strerror or exc}; "
                f"{done} of {len(files)} files are in place",
                kind=ErrorKind.IO,
                advice=Advice.MEND_AND_FORCE,
            ) from exc
