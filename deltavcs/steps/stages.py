"""The stages of Algorithm 1 of Lin et al., and the user's training command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deltavcs.advice import Advice
from deltavcs.brief import brief
from deltavcs.canonical import encode_json
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import Kind
from deltavcs.oid import CommitId, hash_bytes
from deltavcs.refs import check_name
from deltavcs.repo import Repository
from deltavcs.steps.naming import SHORT

PLACES = ("init", "out", "base", "stage")
_REQUIRED = ("init", "out")


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a run, which ends with one commit.

    Attributes:
        position: from 1.
        version: i of M_i.
        branch: where its commit goes.
        base: M_i.
        delta: for a transfer, the branch of the fine-tune whose diff vector is applied.
        init: for a training, the branch of the starting point; None to start from the base.
        text: what it does, for people.
    """

    position: int
    version: int
    branch: str
    base: CommitId
    base_name: str
    delta: str | None
    init: str | None
    text: str

    __repr__ = brief

    @property
    def is_transfer(self) -> bool:
        """True for M_i + Δ, False for a training."""
        return self.delta is not None


def plan_stages(repo: Repository, bases: Sequence[str], name: str, *, iterative: bool) -> list[Stage]:
    """The stages in order.

    Branches are called after what the user wrote, never after what else names a base: a branch that is
    made later must not hide the stages that are done.

    Raises:
        NotFoundError: an unknown revision.
        InvalidInputError: `bad-argument` for no base, an adapter, one base twice, or results of one name.
    """
    if not bases:
        raise InvalidInputError("there is no base", kind=ErrorKind.BAD_ARGUMENT, advice=Advice.NAME_BASES)
    commits = [_resolve_base(repo, b) for b in bases]
    _check_different(bases, commits)
    names = [_branch_part(repo, b, c) for b, c in zip(bases, commits, strict=True)]
    stages: list[Stage] = []

    def add(i: int, suffix: str, text: str, *, delta: str | None = None, init: str | None = None) -> str:
        branch = check_name(f"{name}/{names[i]}{suffix}")
        stages.append(Stage(len(stages) + 1, i + 1, branch, commits[i], names[i], delta, init, text))
        return branch

    carried = add(0, "", f"fine-tune {names[0]}")
    for i in range(1, len(commits)):
        init = add(i, ".init", f"{names[i]} + diff vector of {carried}", delta=carried)
        tuned = add(i, "", f"fine-tune {init}", init=init)
        if iterative:
            carried = tuned
        elif i < len(commits) - 1:
            carried = add(i, ".plain", f"fine-tune {names[i]} plainly")
    _check_branches([s.branch for s in stages])
    return stages


def _resolve_base(repo: Repository, text: str) -> CommitId:
    commit = repo.resolve(text)
    if repo.commit(commit).kind is Kind.ADAPTER:
        raise InvalidInputError(
            f"{text} is an adapter, not a base",
            kind=ErrorKind.BAD_ARGUMENT,
            advice=Advice.FOLD_ADAPTER,
            facts={"revision": text},
        )
    return commit


def _check_different(bases: Sequence[str], commits: Sequence[CommitId]) -> None:
    first: dict[CommitId, str] = {}
    for text, commit in zip(bases, commits, strict=True):
        if commit in first:
            both = text if text == first[commit] else f"{first[commit]} and {text} are one checkpoint"
            raise InvalidInputError(
                f"a base is named twice: {both}",
                kind=ErrorKind.BAD_ARGUMENT,
                advice=Advice.NAME_BASES_ONCE,
            )
        first[commit] = text


def _branch_part(repo: Repository, text: str, commit: CommitId) -> str:
    """What a base's results are called: as the user wrote it, but for ids, of which any prefix will do."""
    name = text.partition("~")[0]
    refs = {r.removeprefix("refs/") for kind in ("heads", "tags") for r in repo.refs.names(f"refs/{kind}")}
    if refs.isdisjoint((name, f"heads/{name}", f"tags/{name}")):
        return commit[:SHORT]
    return text.replace("~", "-")


def _check_branches(branches: Sequence[str]) -> None:
    """The results of one base must not be called as another's, nor lie in a folder that is a result."""
    for i, one in enumerate(branches):
        other = next((b for b in branches[:i] if are_in_conflict(one, b)), None)
        if other is not None:
            both = f"two would be called {one}" if one == other else f"{other} and {one} cannot both be names"
            raise InvalidInputError(
                f"these bases have results that get in each other's way: {both}",
                kind=ErrorKind.BAD_ARGUMENT,
                advice=Advice.TAG_BASE,
            )


def are_in_conflict(one: str, other: str) -> bool:
    """True if two branches cannot both exist: same name, or one a folder of the other."""
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def parse_command(command: str) -> list[str]:
    """The words of a command template.

    Raises:
        InvalidInputError: `bad-argument` if it is malformed or lacks `{init}` or `{out}`.
    """
    try:
        words = shlex.split(command)
    except ValueError as exc:
        raise InvalidInputError(
            f"the training command cannot be split into words: {exc}",
            kind=ErrorKind.BAD_ARGUMENT,
            advice=Advice.CHECK_QUOTES,
        ) from exc
    missing = [f"{{{place}}}" for place in _REQUIRED if not any(f"{{{place}}}" in w for w in words)]
    if missing:
        raise InvalidInputError(
            f"the training command lacks {' and '.join(missing)}",
            kind=ErrorKind.BAD_ARGUMENT,
            advice=Advice.TRAINING_COMMAND,
        )
    return words


def fill_command(command: str, places: Mapping[str, str]) -> list[str]:
    """The words of a command with its places filled in; a path is never split or expanded."""
    words = parse_command(command)
    for place in PLACES:
        words = [w.replace(f"{{{place}}}", places[place]) for w in words]
    return words


def stage_folder(stage: Stage, mode: str, command: str, inputs: Sequence[CommitId | None]) -> str:
    """Name of a stage's folder: another command or starting point makes another folder."""
    key = hash_bytes("recycle-stage", encode_json([mode, command, stage.base, stage.branch, list(inputs)]))
    return f"{stage.position:02d}-{stage.base_name.replace('/', '_')}-{key[:8]}"
