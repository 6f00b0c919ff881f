"""The loss on the straight line between two checkpoints, and its barrier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from deltavcs.advice import Advice
from deltavcs.brief import brief
from deltavcs.checkpoint.view import Content
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.evaluation.barrier import DEFAULT_POINTS, Connectivity, measure_connectivity
from deltavcs.evaluation.curve import plot_svg, plot_text
from deltavcs.evaluation.prompts import Prompts
from deltavcs.evaluation.subject import subject_of
from deltavcs.merging.combination import combine
from deltavcs.objects.model import Kind, Manifest
from deltavcs.oid import CommitId
from deltavcs.repo import Repository
from deltavcs.resources import Resources
from deltavcs.steps.operands import open_operands
from deltavcs.steps.running import Running, open_bench, open_probe
from deltavcs.tensors.programs import Token


@dataclass(frozen=True, slots=True)
class Segment:
    """The loss between two checkpoints on samples of a task.

    Attributes:
        start, end: the checkpoints at α = 0 and α = 1.
        curve: losses and barrier.
        split: where the samples come from; `substituted` if that is not the training split.
    """

    start: CommitId
    end: CommitId
    start_name: str
    end_name: str
    task: str
    task_fingerprint: str
    split: str
    substituted: bool
    n_samples: int
    seed: int
    curve: Connectivity

    __repr__ = brief

    def text(self, *, width: int = 60, height: int = 12, ascii_only: bool = False) -> str:
        """The curve drawn with characters."""
        return plot_text(self.curve, width=width, height=height, ascii_only=ascii_only)

    def svg(self) -> str:
        """The curve as an SVG document."""
        return plot_svg(self.curve, title=f"{self.task}: {self.start_name} → {self.end_name}")


def connectivity(
    repo: Repository,
    start: str,
    end: str,
    task: str,
    *,
    points: int = DEFAULT_POINTS,
    running: Running | None = None,
) -> Segment:
    """Evaluate (1 − α)·A + α·B for evenly spaced α from 0 to 1.

    Points between are computed in float64 and rounded once to A's dtype, as an expression's are; nothing is
    stored. Configuration and tokenizer are A's.

    Args:
        start, end: A and B, revisions of whole checkpoints.
        task: whose samples are asked.
        points: how many, ends included.
        running: how many rows, and where the model runs: only the first device is used.

    Raises:
        NotFoundError: an unknown revision or task.
        InvalidInputError: `incompatible` if names or shapes differ; `bad-argument` for fewer than 2 points.
    """
    running = running or Running()
    ends = [_whole(repo, start), _whole(repo, end)]
    advice = Advice.CHECK_OUT_DEQUANTIZED
    manifests = list(open_operands(repo, ends, (start, end), advice=advice).manifests)
    subject = subject_of(repo.objects, ends[0], start)
    _interpolated(repo, manifests, 0.5)  # names and shapes, before anything is loaded
    probe = open_probe(repo, task, running)
    prompts = Prompts(repo.objects, probe.examples)
    bench = open_bench(repo, prompts, running, device=running.devices[0], quiet=True)
    progress = _PointProgress(repo.resources, len(probe.examples), points)
    curve = measure_connectivity(
        lambda s: bench.evaluate(s, split=probe.rows.split, progress=progress.row).loss,
        lambda alpha: replace(subject, contents=_interpolated(repo, manifests, alpha)),
        points=points,
        progress=progress.point,
    )
    return Segment(
        start=ends[0],
        end=ends[1],
        start_name=start,
        end_name=end,
        task=task,
        task_fingerprint=probe.rows.fingerprint,
        split=probe.rows.split,
        substituted=probe.rows.substituted,
        n_samples=len(probe.examples),
        seed=running.seed,
        curve=curve,
    )


def _whole(repo: Repository, text: str) -> CommitId:
    """The commit that a revision names, which must not be an adapter."""
    commit = repo.resolve(text)
    if repo.commit(commit).kind is Kind.ADAPTER:
        raise InvalidInputError(
            f"{text} is an adapter; the segment needs whole checkpoints",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.FOLD_ADAPTER,
            facts={"revision": text},
        )
    return commit


class _PointProgress:
    """Tells the progress in rows, as evaluations count: those of a point, for every point."""

    def __init__(self, resources: Resources, n_rows: int, points: int) -> None:
        self._resources = resources
        self._n_rows = n_rows
        self._total = n_rows * points
        self._before = 0

    def row(self, done: int, _: int) -> None:
        """`done` rows of the point under way are evaluated."""
        self._resources.progress("evaluating", self._before + done, self._total)

    def point(self, done: int, _: int) -> None:
        """`done` points are."""
        self._before = done * self._n_rows
        self.row(0, 0)


def _interpolated(repo: Repository, ends: list[Manifest], alpha: float) -> Mapping[str, Content]:
    """The tensors of (1 − α)·A + α·B; at the ends, A's and B's own. Raises as `combine` does."""
    program: tuple[Token, ...] = (0, ("*", 1.0 - alpha), 1, ("*", alpha), "+")
    if alpha in (0.0, 1.0):
        program = (0,) if alpha == 0.0 else (1,)
    combination = combine(repo.objects, program, ends, is_transfer=False)
    if alpha not in (0.0, 1.0):
        return combination.view.primary
    entries = combination.triples
    side = int(alpha)
    return {
        k: Content(entries[k][side].dtype, entries[k][side].shape, blob=entries[k][side].blob)
        if k in entries
        else c
        for k, c in combination.view.primary.items()
    }
