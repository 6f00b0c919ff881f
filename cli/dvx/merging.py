"""What merge and mashup share: the methods' options, and the lines about a merge."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dvx import reports, text
from dvx.evaluating import NUMBERS

if TYPE_CHECKING:
    from deltavcs.porcelain.merge import Merged

F = TypeVar("F", bound=Callable[..., Any])

METHODS = (
    "average", "weighted", "task_arithmetic", "ties", "dare", "dare_ties", "slerp", "fisher", "regmean",
)  # fmt: skip
_HELP = {
    "weights": ("W,…", "Weight of each model, or one for all."),
    "density": ("D,…", "ties, dare: share of each diff vector that is kept."),
}


def method_options(function: F) -> F:
    """Add `--method` and the parameters of the methods."""
    for name, doc in (
        ("ridge", "regmean: pull towards the average."),
        ("alpha", "regmean: factor of the off-diagonal elements."),
        ("floor", "fisher: smallest information that counts."),
        ("t", "slerp: 0 is the first model, 1 the second."),
        ("scale", "Factor of the merged diff vector."),
    ):
        function = click.option(f"--{name}", type=float, metavar="X", help=doc)(function)
    function = click.option("--mask-seed", type=int, metavar="N", help="dare: seed of the random masks.")(
        function
    )
    for name, (metavar, doc) in _HELP.items():
        function = click.option(f"--{name}", type=NUMBERS, metavar=metavar, help=doc)(function)
    function = click.option(
        "--exact", is_flag=True, help="Adapters: merge their products, not their factors."
    )(function)
    return click.option(
        "--method",
        type=click.Choice([m.replace("_", "-") for m in METHODS]),
        default="average",
        show_default=True,
        help="How to merge; 'docs/merging.md' explains them.",
    )(function)


def collect(
    weights: tuple[float, ...] | None,
    density: tuple[float, ...] | None,
    mask_seed: int | None,
    **numbers: float | None,
) -> dict[str, object]:
    """The method's parameters that were given."""
    found: dict[str, object] = {k: v for k, v in numbers.items() if v is not None}
    for name, values in (("weights", weights), ("density", density)):
        if values is not None:
            found[name] = values[0] if len(values) == 1 else list(values)
    if mask_seed is not None:
        found["seed"] = mask_seed
    return found


def document(merged: Merged) -> dict[str, object]:
    """A merge for JSON."""
    return {
        "method": merged.method,
        "parameters": merged.parameters,
        "inputs": [{"commit": c, "name": n} for c, n in zip(merged.inputs, merged.input_names, strict=True)],
        "base": merged.base,
        "recipe": merged.recipe,
        "adapter": merged.is_adapter,
        "n_merged": len(merged.merged),
        "untouched": merged.untouched,
        "copied": merged.copied,
        "converted": merged.converted,
        "lost": merged.lost,
        "recorded": reports.recorded_document(merged.recorded) if merged.recorded else None,
    }


def lines(merged: Merged) -> Iterator[str]:
    """A merge for people."""
    made = merged.recorded
    inputs = ", ".join(text.plain(n) for n in merged.input_names)
    what = f"{merged.method} of {inputs}" + (
        f" over {text.plain(merged.base_name or '')}" if merged.base else ""
    )
    yield f"{reports.name(made.name)} {reports.commit_id(made.commit)} = {what}" if made else what
    settings = ", ".join(f"{k} {_shown(v)}" for k, v in merged.parameters.items())
    if settings:
        yield settings
    counts = [text.count(len(merged.merged), "tensor") + " merged"]
    counts += [f"{len(merged.untouched)} the same in all"] if merged.untouched else []
    counts += [f"{len(merged.copied)} copied: no arithmetic"] if merged.copied else []
    counts += [f"{len(merged.converted)} of several dtypes"] if merged.converted else []
    yield ", ".join(counts)
    if merged.lost:
        worst = max(merged.lost, key=lambda k: merged.lost[k])
        share = text.percent(merged.lost[worst])
        yield f"cut off by the rank: at most {share} of an update ({text.plain(worst)})"
    if made is None:
        yield "a dry run: nothing was committed"
    elif made.unchanged:
        yield from reports.unchanged_lines(made)
    else:
        yield f"stored {text.size(made.stored_bytes)} for {text.size(made.raw_bytes)} of weights"
    if made is not None:
        yield reports.next_step(f"dvx checkout {made.name} -o DIR")


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(f"{v:g}" for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
