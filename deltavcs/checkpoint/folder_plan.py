"""What a checkout does to a directory that holds something: which files it writes, keeps, removes, leaves."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from deltavcs.advice import Advice
from deltavcs.checkpoint.components import is_other_weights
from deltavcs.checkpoint.file_identity import identity_on_disk, stamp_of
from deltavcs.checkpoint.layout import ADAPTER_CONFIG, is_safetensors
from deltavcs.checkpoint.marker import Change, Marker, WrittenFile
from deltavcs.checkpoint.view import View
from deltavcs.errors import AlreadyExistsError, ErrorKind

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class FolderPlan:
    """Paths, sorted.

    Attributes:
        write: added or replaced.
        keep: there already, with the content that is wanted.
        remove: written by the checkout before, and not part of the new one.
        stay: likewise, but changed since: left as they are.
        gone: all that checkouts before wrote, or were about to, and the new one does not have.
        have: what is there and as a checkout wrote it, or with the content that is wanted.
    """

    write: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    stay: tuple[str, ...] = ()
    gone: frozenset[str] = frozenset()
    have: Mapping[str, WrittenFile] = field(default_factory=dict)


def loads_as_weights(path: str) -> bool:
    """True for what a library takes for weights, or lets decide which weights it takes."""
    name = PurePosixPath(path).name
    return (
        is_safetensors(name)
        or is_other_weights(name)
        or name.endswith(".index.json")
        or name == ADAPTER_CONFIG
    )


def owned_files(state: Marker | Change | None) -> dict[str, list[WrittenFile]]:
    """Per path what checkouts have written there, or were about to when they were cut off."""
    owned: dict[str, list[WrittenFile]] = {}
    tables: list[Mapping[str, WrittenFile]] = []
    if isinstance(state, Marker):
        tables.append(state.files or {})
    elif state is not None:
        tables += [state.before, (state.to.files or {}) if state.to is not None else {}]
    for table in tables:
        for path, file in table.items():
            owned.setdefault(path, []).append(file)
    return owned


def plan_folder(
    out: Path,
    owned: Mapping[str, Sequence[WrittenFile]],
    view: View,
    wanted: Mapping[str, str | None],
    *,
    strict: bool,
) -> FolderPlan:
    """Compare a directory with what it is to hold. Reads only files that do not look as they were written.

    Args:
        owned: as `owned_files` gives it.
        view: what it is to hold.
        wanted: per path of the view the identity of its content; None where that is not known yet.
        strict: refuse every file that was changed or is not ours; else only weights, and other files that
            are in the way are replaced.

    Raises:
        AlreadyExistsError: `output-not-empty`, naming files that would be lost, or weights that would stay
            beside the new ones.
    """
    going = frozenset(owned.keys() - wanted.keys())
    folder = _Folder(out, owned, going, strict)
    modes = {f.path: f.executable for f in view.files}
    for path, identity in wanted.items():
        folder.want(path, identity, executable=modes[path])
    for path in going:
        folder.give_up(path)
    known = {*wanted, *owned}
    lost = folder.lost + [p for p in _beside(out, known) if p not in known and loads_as_weights(p)]
    if lost:
        raise _would_be_lost(out, sorted(lost))
    parts = (folder.write, folder.keep, folder.remove, folder.stay)
    write, keep, remove, stay = (tuple(sorted(part)) for part in parts)
    return FolderPlan(write, keep, remove, stay, going, folder.have)


class _Folder:
    """A directory that is being compared, file by file."""

    def __init__(
        self, out: Path, owned: Mapping[str, Sequence[WrittenFile]], going: frozenset[str], strict: bool
    ) -> None:
        self._out, self._owned, self._going, self._strict = out, owned, going, strict
        self.write: list[str] = []
        self.keep: list[str] = []
        self.remove: list[str] = []
        self.stay: list[str] = []
        self.lost: list[str] = []
        self.have: dict[str, WrittenFile] = {}

    def want(self, path: str, identity: str | None, *, executable: bool) -> None:
        """Sort in a file that is to be there."""
        at, astray = self._out / path, leads_elsewhere(self._out, path)
        if (not astray and not os.path.lexists(at)) or self._makes_room(path):
            self.write.append(path)
            return
        found = None if astray else self._ours(path, identity)
        if found is None:
            (self.lost if self._strict or loads_as_weights(path) else self.write).append(path)
        elif found == identity and bool(at.stat().st_mode & stat.S_IXUSR) == executable:
            self.keep.append(path)
        else:
            self.write.append(path)

    def give_up(self, path: str) -> None:
        """Sort in a file that a checkout wrote and that is to be there no more."""
        if leads_elsewhere(self._out, path) or not os.path.lexists(self._out / path):
            return
        if self._ours(path, None) is not None:
            self.remove.append(path)
        else:
            (self.lost if loads_as_weights(path) else self.stay).append(path)

    def _makes_room(self, path: str) -> bool:
        """True if only what is given up is in the way: a folder of such files, or one above the path."""
        at = self._out / path
        above = {str(p) for p in PurePosixPath(path).parents} & self._going
        if above:
            return self._ours(above.pop(), None) is not None
        if at.is_symlink() or not at.is_dir() or leads_elsewhere(self._out, path):
            return False
        inside = [str(x.relative_to(self._out)) for x in at.rglob("*") if x.is_symlink() or not x.is_dir()]
        return all(x in self._going and self._ours(x, None) is not None for x in inside)

    def _ours(self, path: str, wanted: str | None) -> str | None:
        """The identity of a file with the content that a checkout wrote, or that is wanted; else None."""
        stamp, written = stamp_of(self._out / path), self._owned.get(path, ())
        if stamp is None:
            return None
        found = next((w.identity for w in written if w.stamp == stamp), None)
        found = found or identity_on_disk(self._out / path)
        if found != wanted and all(w.identity != found for w in written):
            return None
        self.have[path] = WrittenFile(found, stamp)
        return found


def leads_elsewhere(out: Path, path: str) -> bool:
    """True if a folder on the way to a file is none: a file, or a link that may lead out of the directory."""
    at = out
    for part in PurePosixPath(path).parts[:-1]:
        at /= part
        if at.is_symlink() or (os.path.lexists(at) and not at.is_dir()):
            return True
    return False


def _beside(out: Path, known: Iterable[str]) -> list[str]:
    """Files in the folders that a checkout uses."""
    folders = {"", *(str(p) for path in known for p in PurePosixPath(path).parents if str(p) != ".")}
    found = []
    for folder in folders:
        at = out / folder
        if at.is_dir() and not leads_elsewhere(out, f"{folder}/x" if folder else "x"):
            found += [
                f"{folder}/{e.name}".lstrip("/")
                for e in os.scandir(at)
                if not e.is_dir(follow_symlinks=False)
            ]
    return found


def _would_be_lost(out: Path, paths: Sequence[str]) -> AlreadyExistsError:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    many = len(paths) > 1
    return AlreadyExistsError(
        f"{out}: {', '.join(paths[:_SHOWN])}{more} {'are' if many else 'is'} not as a checkout wrote"
        f" {'them' if many else 'it'}",
        kind=ErrorKind.OUTPUT_NOT_EMPTY,
        advice=Advice.MOVE_FILES_AWAY if any(map(loads_as_weights, paths)) else Advice.FORCE_PLAIN_FILES,
    )
