"""Finding the base of an adapter: what its configuration names, or the only base that it fits."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

from deltavcs.advice import Advice
from deltavcs.checkpoint.base_search import distance_to
from deltavcs.checkpoint.layout import ADAPTER_CONFIG
from deltavcs.checkpoint.marker import read_marker
from deltavcs.checkpoint.source import SourceCheckpoint, open_checkpoint
from deltavcs.errors import ErrorKind, FormatError, InvalidInputError, NotFoundError, StorageError
from deltavcs.history.walk import walk
from deltavcs.objects.model import Commit, Kind
from deltavcs.oid import CommitId
from deltavcs.repo import Repository
from deltavcs.steps.adapter_checks import check_adapter_fits, check_whole, kind_of, says_its_modules
from deltavcs.steps.found_base import Base
from deltavcs.steps.naming import name_of, names_by_commit, tips
from deltavcs.steps.same_weights import checkpoints, without_copies

_SHOWN = 3


def base_of_adapter(repo: Repository, checkpoint: SourceCheckpoint) -> Base:
    """The checkpoint that an adapter was trained on.

    What its configuration names is the base, whether it fits or not; only where that is not known here, the
    one base that has the modules is taken.

    Raises:
        InvalidInputError: `base-unknown` if several fit, or none, or only another one than it names;
            `bad-checkpoint` if it is not whole.
    """
    check_whole(checkpoint)
    place = _named_base(checkpoint)
    named = _one_of(repo, commits_called(repo, place)) if place else []
    if len(named) > 1:
        named = [c for c in named if _matches(repo, checkpoint, c)] or named
    if len(named) == 1:
        return Base(named[0], name_of(repo, named[0]), "config")
    fitting = named or without_copies(
        repo,
        (
            c
            for c, _ in checkpoints(repo)
            if repo.commit(c).kind is Kind.BASE and _matches(repo, checkpoint, c)
        ),
    )
    elsewhere = _same_as_directory(repo, place, fitting)
    if elsewhere is not None:
        if len(elsewhere) == 1:
            return Base(elsewhere[0], name_of(repo, elsewhere[0]), "config")
    elif (
        len(fitting) == 1 and says_its_modules(checkpoint) and not _is_another(repo.commit(fitting[0]), place)
    ):
        return Base(fitting[0], name_of(repo, fitting[0]), "inferred", named=place)
    raise _unknown(repo, checkpoint, place, fitting)


def _same_as_directory(
    repo: Repository, place: str | None, candidates: list[CommitId]
) -> list[CommitId] | None:
    """Those whose weights lie in the directory that an adapter names; None if there are none to look at."""
    if not place or not Path(place).is_dir():
        return None
    try:
        with open_checkpoint(Path(place)) as base:
            if not base.tensors:
                return None
            return [c for c in candidates if distance_to(repo.objects, base, repo.manifest(c)) == 0.0]
    except (FormatError, InvalidInputError, NotFoundError, StorageError):
        return None


def commits_called(repo: Repository, place: str) -> list[CommitId]:
    """Whole checkpoints of the history that a place stands for, newest first.

    Args:
        place: a directory, a model of the Hub, or a name, as libraries remember where a model was loaded
            from: a checkout, a source of an import or a commit, a branch or tag.
    """
    marker = read_marker(Path(place)) if Path(place).is_dir() else None
    if marker is not None and repo.objects.has(marker.commit):
        return [marker.commit]
    whole = {c: v for c, v in walk(repo.objects, tips(repo)) if v.kind is not Kind.ADAPTER}
    found = [c for c, value in whole.items() if place in _origins(value)]
    if found:
        return found
    if Path(place).is_dir():
        here = str(Path(place).absolute())
        return [c for c, value in whole.items() if here in _origins(value)]
    called = {place, PurePosixPath(place).name}
    named = names_by_commit(repo)
    return [c for c in whole if called & {n.removeprefix("tag: ") for n in named.get(c, ())}]


def _origins(value: Commit) -> set[str]:
    return {str(value.source[key]) for key in ("path", "hub") if key in value.source}


def _named_base(checkpoint: SourceCheckpoint) -> str | None:
    try:
        place = json.loads(checkpoint.read_small(ADAPTER_CONFIG) or b"")["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return place if isinstance(place, str) and 0 < len(place) < 4096 and "\0" not in place else None


def _is_another(value: Commit, place: str | None) -> bool:
    """True if a base came from one model of the Hub and an adapter names another one."""
    hub = value.source.get("hub")
    return hub is not None and place is not None and _is_hub_name(place) and place != hub


def _is_hub_name(place: str) -> bool:
    return place.count("/") == 1 and not place.startswith((".", "/", "~")) and not Path(place).exists()


def _one_of(repo: Repository, commits: list[CommitId]) -> list[CommitId]:
    """A branch grows: what its later commits hold comes first, of bases that are the same weights one."""
    kept = without_copies(repo, commits)
    bases = [c for c in kept if repo.commit(c).kind is Kind.BASE]
    return bases or kept


def _matches(repo: Repository, checkpoint: SourceCheckpoint, base: CommitId) -> bool:
    return _misfit(repo, checkpoint, base) is None


def _misfit(repo: Repository, checkpoint: SourceCheckpoint, base: CommitId) -> InvalidInputError | None:
    try:
        check_adapter_fits(repo, checkpoint, base)
    except InvalidInputError as exc:
        return exc
    return None


def _why_none_fits(repo: Repository, checkpoint: SourceCheckpoint) -> str:
    """Of the newest bases, what of the adapter they lack."""
    bases = without_copies(repo, (c for c, _ in checkpoints(repo) if repo.commit(c).kind is Kind.BASE))
    reasons = ((c, _misfit(repo, checkpoint, c)) for c in bases[:_SHOWN])
    told = "; ".join(f"{name_of(repo, c)}: {why}" for c, why in reasons if why is not None)
    return f"it fits no base of the repository ({told})" if told else "the repository has no base"


def _unknown(
    repo: Repository, checkpoint: SourceCheckpoint, place: str | None, fitting: list[CommitId]
) -> InvalidInputError:
    if not fitting:
        told = _why_none_fits(repo, checkpoint)
    elif not says_its_modules(checkpoint):
        told = f"an adapter of the type {kind_of(checkpoint)} does not name modules of its base"
    else:
        told = f"it fits {', '.join(name_of(repo, c) for c in fitting)}"
    says = f" (its adapter_config.json names {place})" if place else ""
    return InvalidInputError(
        f"cannot tell the base of the adapter {checkpoint.root}{says}: {told}",
        kind=ErrorKind.BASE_UNKNOWN,
        advice=Advice.NAME_OR_IMPORT_BASE,
    )
