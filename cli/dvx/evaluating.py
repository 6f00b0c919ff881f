"""What the commands that run models share: options, and how scores and devices are named."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

import deltavcs as dv
from dvx import text
from dvx.options import REVISION
from dvx.table import Column

if TYPE_CHECKING:
    from deltavcs.ranking.result import Ranking
    from deltavcs.steps.running import Running
    from deltavcs.steps.selecting import Selection
    from deltavcs.storage.hub_client import HubOptions

F = TypeVar("F", bound=Callable[..., Any])

SAMPLES = 256
RANKED = (
    Column("rank", right=True),
    Column("loss", right=True),
    Column("accuracy", right=True),
    Column("commit", colour="blue"),
    Column("name", least=12, colour="green", bold=True),
    Column("kind", spare=True),
    Column("of", spare=True),
    Column("trained on", spare=True),
)


class Numbers(click.ParamType[tuple[float, ...]]):
    """`0.5` or `0.5,0.3`."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Split at commas."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a number, or numbers separated by commas", param, ctx)


class BatchSize(click.ParamType[Any]):
    """A number or `auto`."""

    name = "batch size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """A whole number above 0, or `auto`."""
        given = str(value)
        if given != "auto" and not (given.isdigit() and int(given) > 0):
            self.fail(f"{value!r} is neither a number nor 'auto'", param, ctx)
        return given if given == "auto" else int(given)


NUMBERS = Numbers()


def sampling(function: F) -> F:
    """Add `--samples` and `--seed`."""
    for option in (
        click.option("--seed", type=int, default=0, show_default=True, help="Draws the samples."),
        click.option(
            "--samples", type=click.IntRange(1), default=SAMPLES, show_default=True, metavar="N",
            help="Rows of the task to ask.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


def running(function: F) -> F:
    """Add `--device`, `--dtype` and `--batch-size`."""
    for option in (
        click.option(
            "--batch-size", type=BatchSize(), default="auto", show_default=True, metavar="N",
            help="Rows at a time; auto backs off when memory runs out.",
        ),
        click.option("--dtype", metavar="DTYPE", help="Run in this dtype; by default the checkpoint's own."),
        click.option(
            "--device", "devices", multiple=True, metavar="DEV",
            help="Such as cuda or cpu; repeatable, one worker each. By default every GPU, else the CPU.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


def selection(function: F) -> F:
    """Add the options that say which checkpoints are ranked."""
    for option in (
        click.option("--adapters/--no-adapters", default=None, help="Rank adapters, or whole checkpoints."),
        click.option(
            "--exclude-task", "exclude_tasks", multiple=True, metavar="TASK",
            help="Leave out what was trained on it, also through a parent; repeatable.",
        ),
        click.option(
            "--where", metavar="SQL", help="Only commits this holds for, over the columns of the view log."
        ),
        click.option("--base", type=REVISION, metavar="REV", help="Only this checkpoint and what it became."),
    ):  # fmt: skip
        function = option(function)
    return function


def make_running(
    samples: int, seed: int, devices: Sequence[str], dtype: str | None, batch_size: int | str
) -> Running:
    """How models run, from the options."""
    return dv.Running(
        samples=samples,
        seed=seed,
        devices=tuple(devices) or default_devices(),
        dtype=dtype,
        batch_size=batch_size,
        hub=hub_options(),
    )


def make_selection(
    metric: str,
    base: str | None,
    where: str | None,
    exclude_tasks: Sequence[str],
    adapters: bool | None,
    **more: bool,
) -> Selection:
    """Which checkpoints take part and by what they are ranked, from the options."""
    return dv.Selection(
        metric=metric, base=base, where=where, exclude_tasks=tuple(exclude_tasks), adapters=adapters, **more
    )


def default_devices() -> tuple[str, ...]:
    """Every GPU, else the CPU."""
    import torch

    if torch.cuda.is_available():
        return tuple(f"cuda:{i}" for i in range(torch.cuda.device_count()))
    return ("cpu",)


def hub_options() -> HubOptions:
    """How to reach the Hub, as the environment says it."""
    return dv.HubOptions(
        endpoint=os.environ.get("HF_ENDPOINT") or None,
        token=os.environ.get("HF_TOKEN") or None,
        offline=os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"),
    )


def ranked_rows(ranking: Ranking) -> list[tuple[str, ...]]:
    """Rows of a ranking for the columns `RANKED`."""
    return [
        (
            str(r.rank),
            f"{r.loss:.4f}",
            "" if r.accuracy is None else text.percent(r.accuracy),
            text.short(r.commit),
            text.plain(r.name),
            r.kind,
            text.plain(r.base or ""),
            text.plain(r.task or ""),
        )
        for r in ranking.ranked
    ]


def split_note(task: str, split: str) -> str:
    """Said when the samples are not from the training split."""
    return f"{task} has no training rows here; the samples are from its {split} split"
