"""Which checkpoints of the history are ranked against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, NotFoundError
from deltavcs.evaluation.architecture import whole_keys
from deltavcs.history.ancestors import base_chain
from deltavcs.index.statement import query
from deltavcs.objects.model import Kind
from deltavcs.oid import CommitId
from deltavcs.ranking.candidates import Candidate, Unusable, find_candidates
from deltavcs.ranking.order import choose_group, without_tasks
from deltavcs.ranking.result import NotRanked
from deltavcs.repo import Repository
from deltavcs.steps.arguments import several
from deltavcs.steps.naming import name_of, names_by_commit, tips


@dataclass(frozen=True, slots=True)
class Selection:
    """Which checkpoints take part, and by what they are ranked.

    Attributes:
        metric: `loss` or `accuracy`.
        base: only this checkpoint and what was made from it; also settles the architecture.
        where: SQL condition over the columns of the view `log`, such as `task = 'piqa'`.
        exclude_tasks: leave out checkpoints that these tasks went into, also through a parent.
        adapters: True for LoRA adapters, False for whole checkpoints, None to go by what there is.
        bases: keep the bases themselves in.
        last_only: of each branch only the last checkpoint.
    """

    metric: str = "loss"
    base: str | None = None
    where: str | None = None
    exclude_tasks: tuple[str, ...] = ()
    adapters: bool | None = None
    bases: bool = True
    last_only: bool = False

    def __post_init__(self) -> None:
        several(self.exclude_tasks, "exclude_tasks")


@dataclass(frozen=True, slots=True)
class Selected:
    """What a selection comes to.

    Attributes:
        candidates: of one group; those that share a model instance stand together.
        unusable: cannot be evaluated.
        n_excluded: left out.
    """

    candidates: tuple[Candidate, ...]
    unusable: tuple[NotRanked, ...]
    n_excluded: int


def select(repo: Repository, selection: Selection) -> Selected:
    """The candidates of one group.

    Raises:
        NotFoundError: `unknown-revision` if there is none.
        InvalidInputError: `bad-argument` if the history holds several architectures; `bad-sql`.
    """
    usable: list[Candidate] = []
    unusable: list[NotRanked] = []
    wanted = _where(repo, selection.where) if selection.where is not None else None
    for one in find_candidates(repo.objects, tips(repo), last_only=selection.last_only):
        if wanted is not None and one.commit not in wanted:
            continue
        if isinstance(one, Unusable):
            unusable.append(NotRanked(one.commit, name_of(repo, one.commit), one.why))
        else:
            usable.append(one)
    kept = without_tasks(usable, selection.exclude_tasks)
    if not selection.bases:
        kept = [c for c in kept if c.kind is not Kind.BASE]
    if selection.base is not None:
        kept = _made_from(repo, kept, repo.resolve(selection.base))
    names = {c: found[0] for c, found in names_by_commit(repo).items()}
    chosen = choose_group(kept, adapters=selection.adapters, describe=names)
    if not chosen:
        raise NotFoundError(
            "there is no checkpoint to rank" + _reason(unusable),
            kind=ErrorKind.UNKNOWN_REVISION,
            advice=Advice.WIDEN_SELECTION,
        )
    # Otherwise newest first, as history has them.
    chosen.sort(key=lambda c: c.model_key)
    return Selected(tuple(chosen), tuple(unusable), len(usable) - len(chosen))


def _reason(unusable: Sequence[NotRanked]) -> str:
    """Why the first of those that cannot be ranked cannot."""
    return f"; {unusable[0].name} cannot be, since {unusable[0].why}" if unusable else ""


def _where(repo: Repository, condition: str) -> frozenset[CommitId]:
    """Commits that a condition over the view `log` holds for. Raises InvalidInputError: `bad-sql`."""
    found = query(repo.index, f'SELECT "commit" FROM log WHERE ({condition}\n)')
    return frozenset(CommitId(row[0]) for row in found.rows)


def _made_from(repo: Repository, candidates: Sequence[Candidate], base: CommitId) -> list[Candidate]:
    """The base itself, and what was made from it without changing its shapes."""
    group = None
    if repo.commit(base).kind is not Kind.ADAPTER:
        group = whole_keys(repo.objects, repo.manifest(base))[0]
    manifest = repo.commit(base).manifest
    return [
        c
        for c in candidates
        if c.manifest == manifest
        # An adapter runs on the very base it was made for, and on nothing that was made from it.
        or (c.is_adapter and c.below == manifest)
        or (c.group == group and base in base_chain(repo.objects, c.commit))
    ]
