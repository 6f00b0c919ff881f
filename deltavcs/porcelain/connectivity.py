"""`dvx connectivity`: the loss on the straight line between two checkpoints, and its barrier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from deltavcs.checkpoint.view import Content
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.evaluation.barrier import DEFAULT_POINTS, Connectivity, measure_connectivity
from deltavcs.evaluation.curve import plot_svg, plot_text
from deltavcs.merging.combination import combine
from deltavcs.objects.model import Kind, Manifest
from deltavcs.oid import CommitId
from deltavcs.porcelain.checkout import parse_dtype
from deltavcs.porcelain.rank import Running
from deltavcs.repo import Repository
from deltavcs.resources import Resources
from deltavcs.steps.running import Bench, Prompts, Subject, open_probe, subject_of
from deltavcs.tasks.definition import DEFAULT_SAMPLES
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
    samples: int = DEFAULT_SAMPLES,
    seed: int = 0,
    running: Running | None = None,
    resources: Resources | None = None,
) -> Segment:
    """Evaluate (1 − α)·A + α·B for evenly spaced α from 0 to 1.

    Points between are computed in float64 and rounded once to A's dtype, as an expression's are; nothing is
    stored. Configuration and tokenizer are A's.

    Args:
        points: how many, ends included.
        running: only its first device is used.

    Raises:
        NotFoundError: an unknown revision or task.
        InvalidInputError: `incompatible` if names or shapes differ; `bad-argument` for fewer than 2 points.
    """
    running, resources = running or Running(), resources or Resources()
    ends = [repo.resolve(start), repo.resolve(end)]
    for text, commit in zip((start, end), ends, strict=True):
        if repo.commit(commit).kind is Kind.ADAPTER:
            raise InvalidInputError(
                f"{text} is an adapter; the segment needs whole checkpoints",
                kind=ErrorKind.INCOMPATIBLE,
                hint=f"Fold it in and commit the result: dvx checkout {text} --merge-adapter -o DIR.",
            )
    subject = subject_of(repo, ends[0], start)
    manifests = [repo.manifest(c) for c in ends]
    interpolated(repo, manifests, 0.5)  # names and shapes, before anything is loaded
    probe = open_probe(repo, task, samples=samples, seed=seed, hub=running.hub)
    bench = Bench(
        repo,
        Prompts(repo, probe.examples),
        device=running.devices[0],
        dtype=parse_dtype(running.dtype) if running.dtype is not None else None,
        batch_size=running.batch_size,
        resources=Resources(resources.threads, resources.memory_bytes),
    )

    def at(alpha: float) -> Subject:
        return replace(subject, contents=interpolated(repo, manifests, alpha))

    progress = _Rows(resources, len(probe.examples), points)
    curve = measure_connectivity(
        lambda s: bench.evaluate(s, split=probe.rows.split, progress=progress.row).loss,
        at,
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
        seed=seed,
        curve=curve,
    )


class _Rows:
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


def interpolated(repo: Repository, ends: list[Manifest], alpha: float) -> Mapping[str, Content]:
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
