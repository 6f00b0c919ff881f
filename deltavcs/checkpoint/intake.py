"""Which files of a source are committed: patterns, and what they leave out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from deltavcs.brief import brief
from deltavcs.checkpoint.left_by_default import LEFT_BY_DEFAULT
from deltavcs.errors import ErrorKind, InvalidInputError

IGNORE_FILE = ".dvxignore"


class Cause(StrEnum):
    """Why something of a source is not committed."""

    EXCLUDED = "excluded"
    IGNORED = "ignored"
    DEFAULT = "default"
    SUPERSEDED = "superseded"
    INTERNAL = "internal"
    OTHER_FORMAT = "other-format"
    BAD_NAME = "bad-name"
    SAME_NAME = "same-name"
    BROKEN_LINK = "broken-link"
    LINK_LOOP = "link-loop"
    SPECIAL_FILE = "special-file"
    UNREADABLE = "unreadable"
    LFS_POINTER = "lfs-pointer"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or a folder of a source that is not committed.

    Attributes:
        path: relative; a folder ends with `/`.
        size: bytes of all its files.
        n_files: 1 for a file.
        cause: why.
        holds_weights: True for safetensors, and for a folder that holds some.
        twin: the file that is taken, where the names of both differ only in case.
    """

    path: str
    size: int
    n_files: int
    cause: Cause
    holds_weights: bool = False
    twin: str | None = None


@dataclass(frozen=True, slots=True)
class Intake:
    """What of a source is committed.

    Patterns are those of `.gitignore`, relative to the source. What `include` matches is taken; else what
    `exclude` matches is left out; else `.dvxignore` at the top of the source decides, and then the defaults.

    Attributes:
        include: patterns of what is taken, whatever else would leave it out.
        exclude: patterns of what is left out.
        incomplete: take a checkpoint whose shards or weights are not all there.
        paths: exact paths that are taken as well.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    incomplete: bool = False
    paths: frozenset[str] = frozenset()

    __repr__ = brief

    def taking(self, paths: Iterable[str]) -> Intake:
        """The same, and these paths as well but for what `exclude` leaves out."""
        excluded = _compiled(self.exclude, ErrorKind.BAD_ARGUMENT, "")
        return replace(self, paths=self.paths.union(p for p in paths if not excluded.match_file(p)))


@dataclass(slots=True)
class Rules:
    """The patterns of an intake, compiled; and which of them have matched anything.

    Raises:
        InvalidInputError: `bad-argument` for what is no pattern; `bad-checkpoint` if `.dvxignore` holds it.
    """

    intake: Intake
    ignore_file: str = ""
    _include: list[tuple[str, GitIgnoreSpec]] = field(init=False)
    _exclude: list[tuple[str, GitIgnoreSpec]] = field(init=False)
    _all_excluded: GitIgnoreSpec = field(init=False)
    _ignored: GitIgnoreSpec = field(init=False)
    _matched: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self._include = list(_one_by_one(self.intake.include))
        self._exclude = list(_one_by_one(self.intake.exclude))
        self._all_excluded = _compiled(self.intake.exclude, ErrorKind.BAD_ARGUMENT, "")
        lines = self.ignore_file.splitlines()
        self._ignored = _compiled(lines, ErrorKind.BAD_CHECKPOINT, f"{IGNORE_FILE}: ")

    def judge(self, path: str) -> Cause | None:
        """Why a path is left out; None if it is taken.

        Args:
            path: relative; a folder ends with `/`.
        """
        if path in self.intake.paths or self.includes(path):
            return None
        self._matched.update(text for text, spec in self._exclude if spec.match_file(path))
        for spec, cause in (
            (self._all_excluded, Cause.EXCLUDED),
            (self._ignored, Cause.IGNORED),
            (_DEFAULTS, Cause.DEFAULT),
        ):
            found = spec.check_file(path).include
            if found is not None:
                return cause if found else None
        return None

    def includes(self, path: str) -> bool:
        """True if it is asked for by name."""
        if path in self.intake.paths:
            return True
        found = {text for text, spec in self._include if spec.match_file(path)}
        self._matched |= found
        return bool(found)

    @property
    def unmatched(self) -> tuple[str, ...]:
        """Patterns of the intake that nothing has matched, among what was judged."""
        asked = (*self.intake.include, *self.intake.exclude)
        return tuple(text for text in dict.fromkeys(asked) if text not in self._matched and text[:1] != "!")


def _one_by_one(patterns: Iterable[str]) -> Iterator[tuple[str, GitIgnoreSpec]]:
    for text in patterns:
        if not text.strip():
            raise InvalidInputError("a pattern is empty", kind=ErrorKind.BAD_ARGUMENT)
        yield text, _compiled((text,), ErrorKind.BAD_ARGUMENT, "")


def _compiled(patterns: Iterable[str], kind: ErrorKind, where: str) -> GitIgnoreSpec:
    compiled: list[GitIgnoreSpecPattern] = []
    for text in patterns:
        try:
            compiled.append(GitIgnoreSpecPattern(text))
        except (ValueError, re.error) as exc:
            raise InvalidInputError(f"{where}not a pattern: {text!r}", kind=kind) from exc
    return GitIgnoreSpec(compiled, backend="simple")


_DEFAULTS = GitIgnoreSpec.from_lines(LEFT_BY_DEFAULT, backend="simple")
