"""Walking a source: which files are taken, what is left out, and which links lead out of it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deltavcs.advice import Advice
from deltavcs.checkpoint.intake import IGNORE_FILE, Cause, Intake, LeftOut, Rules
from deltavcs.checkpoint.layout import (
    MARKER,
    MAX_JSON_BYTES,
    SKIPPED_FOLDERS,
    is_draft,
    is_essential,
    is_safetensors,
)
from deltavcs.checkpoint.left_by_default import superseded
from deltavcs.errors import ErrorKind, FormatError, InvalidInputError
from deltavcs.objects.paths import check_path, check_paths
from deltavcs.storage import FileReader, translate_os_errors

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_LFS_BYTES = 1024

_WHY = {
    Cause.BROKEN_LINK: "is a broken link",
    Cause.LINK_LOOP: "is a link into its own folder",
    Cause.SPECIAL_FILE: "is not a regular file",
    Cause.UNREADABLE: "cannot be read",
    Cause.LFS_POINTER: "is a Git LFS pointer, not the file itself",
}


@dataclass(frozen=True, slots=True)
class OutsideLink:
    """A link that was followed out of the source. `target` is an absolute path."""

    path: str
    target: str


@dataclass(slots=True)
class Survey:
    """What a walk found.

    Attributes:
        files: where each file lies, by relative path.
        left_out: sorted by path.
        links: that lead out of the source; those of the Hugging Face cache are not among them.
        unmatched: patterns of the intake that matched nothing.
    """

    root: Path
    files: dict[str, Path] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    links: list[OutsideLink] = field(default_factory=list)
    unmatched: tuple[str, ...] = ()

    def replace_files(self, gone: Collection[str], new: Mapping[str, Path]) -> None:
        """Put converted files in the place of those they were made from."""
        self.files = {p: at for p, at in self.files.items() if p not in gone} | dict(new)


def survey_folder(root: Path, intake: Intake) -> Survey:
    """Walk a folder and decide of every file whether it is taken.

    Raises:
        InvalidInputError: `bad-argument` for a pattern that is none; `bad-checkpoint` for a file of
            weights, or one that says what they are, that cannot be read.
        FormatError: `bad-path` if its name is one that not every system can hold.
        StorageError: the folder itself cannot be read.
    """
    walk = _Walk(root, Rules(intake, _ignore_file(root)))
    with translate_os_errors(f"cannot read {root}"):
        walk.folder(root, "", outside=False)
    _settle_names(walk.survey)
    check_paths(walk.survey.files)
    walk.survey.left_out.sort(key=lambda x: x.path)
    walk.survey.links.sort(key=lambda x: x.path)
    walk.survey.unmatched = walk.rules.unmatched
    return walk.survey


@dataclass(slots=True)
class _Group:
    """A folder that is left out, with what was counted in it so far."""

    path: str
    cause: Cause
    size: int = 0
    n_files: int = 0
    holds_weights: bool = False
    any_taken: bool = False


class _Walk:
    def __init__(self, root: Path, rules: Rules) -> None:
        self.survey = Survey(root)
        self.rules = rules
        self.real = os.path.realpath(root)
        self._seen = {self.real}

    def folder(self, folder: Path, prefix: str, *, outside: bool) -> None:
        """Take what is in a folder that is not left out."""
        try:
            entries = _entries(folder)
        except OSError:
            if not prefix:
                raise
            self._leave(prefix, 0, Cause.UNREADABLE)
            return
        files = []
        for entry in entries:
            path = prefix + entry.name
            if path == MARKER:
                continue
            if _is_folder(entry):
                self._subfolder(entry, path, outside=outside)
            else:
                files.append((path, entry))
        self._files(prefix, files, outside=outside)

    def _subfolder(self, entry: os.DirEntry[str], path: str, *, outside: bool) -> None:
        if path in SKIPPED_FOLDERS or entry.name in SKIPPED_FOLDERS or is_draft(path):
            self._leave_folder(entry, path, Cause.INTERNAL)
            return
        cause = self.rules.judge(path + "/")
        if cause is not None:
            self._leave_folder(entry, path, cause)
            return
        real = os.path.realpath(entry.path)
        if real in self._seen or f"{self.real}/".startswith(real.rstrip("/") + "/"):
            self._leave(path, 0, Cause.LINK_LOOP)
            return
        self._seen.add(real)
        goes_out = not outside and entry.is_symlink() and self._note_link(path, real)
        self.folder(Path(entry.path), path + "/", outside=outside or goes_out)
        self._seen.discard(real)

    def _files(self, prefix: str, files: list[tuple[str, os.DirEntry[str]]], *, outside: bool) -> None:
        causes = {path: self.rules.judge(path) for path, _ in files}
        kept = [p.removeprefix(prefix) for p, cause in causes.items() if cause is None]
        for path, entry in files:
            cause = causes[path]
            if cause is None and superseded(entry.name, kept) and not self.rules.includes(path):
                cause = Cause.SUPERSEDED
            cause = cause or _fault(entry, path)
            if cause is None:
                self.survey.files[path] = Path(entry.path)
                if entry.is_symlink() and not outside:
                    self._note_link(path, os.path.realpath(entry.path))
            elif cause in _WHY and is_essential(path):
                raise _unusable(entry.path, path, cause)
            elif cause is Cause.BAD_NAME and is_essential(path):
                check_path(path)
            else:
                self._leave(path, _size(entry), cause)

    def _leave_folder(self, entry: os.DirEntry[str], path: str, cause: Cause) -> None:
        """Count what is in a folder that is left out; what is asked for by name is taken all the same."""
        group = _Group(path, cause)
        if not entry.is_symlink():
            self._count(Path(entry.path), path + "/", group)
        if group.n_files or not group.any_taken:
            self.survey.left_out.append(
                LeftOut(path + "/", group.size, group.n_files, cause, group.holds_weights)
            )

    def _count(self, folder: Path, prefix: str, group: _Group) -> None:
        try:
            entries = _entries(folder)
        except OSError:
            return
        taken = []
        for entry in entries:
            path = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                self._count(Path(entry.path), path + "/", group)
            elif group.cause is not Cause.INTERNAL and self.rules.includes(path):
                taken.append((path, entry))
                group.any_taken = True
            else:
                group.size += _size(entry)
                group.n_files += 1
                group.holds_weights |= is_safetensors(path)
        self._files(prefix, taken, outside=False)

    def _leave(self, path: str, size: int, cause: Cause) -> None:
        self.survey.left_out.append(LeftOut(path, size, 1, cause, is_safetensors(path)))

    def _note_link(self, path: str, real: str) -> bool:
        """Whether a link leads out of the source; the blobs of the Hugging Face cache belong to it."""
        if real.startswith(self.real.rstrip("/") + "/"):
            return False
        cache, snapshots, _ = self.real.rpartition("/snapshots/")
        if not (snapshots and real.startswith(f"{cache}/blobs/")):
            self.survey.links.append(OutsideLink(path, real))
        return True


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda e: e.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself, or through a folder that may not be read
        return False


def _fault(entry: os.DirEntry[str], path: str) -> Cause | None:
    """What keeps a file from being taken."""
    try:
        check_path(path)
    except FormatError:
        return Cause.BAD_NAME
    return _fault_of(Path(entry.path))


def _fault_of(location: Path) -> Cause | None:
    """What keeps a file from being read."""
    try:
        if not location.exists():
            return Cause.BROKEN_LINK
        if not location.is_file():
            return Cause.SPECIAL_FILE
        if not os.access(location, os.R_OK):
            return Cause.UNREADABLE
        if location.stat().st_size <= _LFS_BYTES and _starts_as_pointer(location):
            return Cause.LFS_POINTER
    except OSError:
        return Cause.BROKEN_LINK if location.is_symlink() else Cause.UNREADABLE
    return None


def _unusable(where: str, path: str, cause: Cause) -> InvalidInputError:
    return InvalidInputError(
        f"{where} {_WHY[cause]}",
        kind=ErrorKind.BAD_CHECKPOINT,
        advice=Advice.FETCH_POINTERS if cause is Cause.LFS_POINTER else Advice.MEND_OR_EXCLUDE,
        facts={"path": path},
    )


def _starts_as_pointer(location: Path) -> bool:
    with location.open("rb") as file:
        return file.read(len(_LFS_POINTER)) == _LFS_POINTER


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=entry.is_file()).st_size
    except OSError:
        return 0


def survey_file(file: Path) -> Survey:
    """One file as a whole source. Raises as `survey_folder` does."""
    cause = _fault_of(file)
    if cause is not None:
        raise _unusable(str(file), file.name, cause)
    return Survey(file, {check_path(file.name): file})


def _ignore_file(root: Path) -> str:
    location = root / IGNORE_FILE
    if not location.is_file():
        return ""
    with translate_os_errors(f"cannot read {location}"), FileReader(location) as file:
        if file.size > MAX_JSON_BYTES:
            raise FormatError(f"{location} has {file.size} bytes", kind=ErrorKind.LIMIT_EXCEEDED)
        data = bytes(file.read(0, file.size))
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise InvalidInputError(
            f"{location} is not UTF-8", kind=ErrorKind.BAD_CHECKPOINT, advice=Advice.SAVE_AS_UTF8
        ) from exc


def _settle_names(survey: Survey) -> None:
    """Leave out files whose names differ from another's only in case: not every system can hold both."""
    taken: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in sorted(survey.files, key=lambda p: (not is_essential(p), p)):
        folded = path.casefold()
        above = list(_above(folded))
        twin = taken.get(folded) or folders.get(folded) or next((taken[a] for a in above if a in taken), None)
        if twin is not None and not is_essential(path):
            size = survey.files.pop(path).stat().st_size
            survey.left_out.append(LeftOut(path, size, 1, Cause.SAME_NAME, twin=twin))
            continue
        taken[folded] = path
        for name in above:
            folders.setdefault(name, path)


def _above(path: str) -> Iterator[str]:
    at = path.find("/")
    while at >= 0:
        yield path[:at]
        at = path.find("/", at + 1)
