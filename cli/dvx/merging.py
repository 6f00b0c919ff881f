"""What merge and mashup share: the methods' options, and the lines about a merge."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import click

import deltavcs as dv
from dvx import reports, text
from dvx.evaluating import NUMBERS

if TYPE_CHECKING:
    from deltavcs.merging.settings import Parameter
    from deltavcs.steps.merges import Merged

F = TypeVar("F", bound=Callable[..., Any])
Takers: TypeAlias = "list[tuple[str, Parameter]]"
"""Methods, and the parameter of one name as each has it."""


class _MethodName(click.Choice[str]):
    """A method as the command line spells it, or as the library does."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Hyphens for underscores."""
        return str(super().convert(str(value).replace("_", "-"), param, ctx))


def method_options(function: F) -> F:
    """Add `--method` and the parameters of the methods; the function gets them as `how`, a `MergeMethod`.

    A seed is none of them: what else a command draws at random may share it.
    """
    parameters = _parameters()

    @functools.wraps(function)
    def with_method(*args: Any, method: str, exact: bool, **given: Any) -> Any:
        options = {name: _single(given.pop(name)) for name in parameters}
        found = {name: value for name, value in options.items() if value is not None}
        return function(*args, how=dv.MergeMethod(method.replace("-", "_"), found, exact=exact), **given)

    added: Any = with_method
    for name, takers in reversed(parameters.items()):
        kind: Any = NUMBERS if takers[0][1].per_model else float
        metavar = f"{name[0].upper()},…" if takers[0][1].per_model else "X"
        added = click.option(f"--{name}", type=kind, metavar=metavar, help=_help(takers))(added)
    added = click.option("--exact", is_flag=True, help="Adapters: merge their products, not their factors.")(
        added
    )
    added = click.option(
        "--method",
        type=_MethodName([m.replace("_", "-") for m in dv.MERGE_METHODS]),
        default=dv.MergeMethod().name,
        show_default=True,
        help="How to merge; 'docs/merging.md' explains them.",
    )(added)
    return cast(F, added)


def _parameters() -> dict[str, Takers]:
    """By name of each parameter, the methods that take it; those with a value per model first."""
    found: dict[str, Takers] = {}
    for method in dv.MERGE_METHODS.values():
        for parameter in method.parameters:
            if not parameter.integer:
                found.setdefault(parameter.name, []).append((method.name, parameter))
    return dict(sorted(found.items(), key=lambda item: not item[1][0][1].per_model))


def _help(takers: Takers) -> str:
    """What a parameter means, after the methods that take it where these are few.

    A method that is named after others, such as `dare_ties`, takes what they take and is not listed.
    """
    names = [name for name, _ in takers]
    named = [name for name in names if not any(other in name for other in names if other != name)]
    meaning = takers[0][1].doc
    return f"{', '.join(named)}: {meaning}." if len(named) < 3 else f"{meaning[0].upper()}{meaning[1:]}."


def _single(value: Any) -> Any:
    """One number stands for all models."""
    if not isinstance(value, tuple):
        return value
    return value[0] if len(value) == 1 else list(value)


_ADJUSTED = {
    "renamed": "",
    "filled": " (tied, so the embedding stands for it)",
    "untied": " (trained apart, so the result no longer ties it as the first model does)",
    "ignored": " (buffers that no model needs; kept from the first model)",
}


def document(merged: Merged) -> dict[str, object]:
    """A merge for JSON."""
    return {
        "method": merged.method,
        "parameters": merged.parameters,
        "inputs": [{"commit": c, "name": n} for c, n in zip(merged.inputs, merged.input_names, strict=True)],
        "base": merged.base,
        "recipe": merged.recipe,
        "adapter": merged.is_adapter,
        "init": merged.init,
        "products": merged.products,
        "n_merged": len(merged.merged),
        "untouched": merged.untouched,
        "copied": merged.copied,
        "converted": merged.converted,
        "lost": merged.lost,
        "dequantized": merged.dequantised,
        "apart": merged.apart,
        "adjusted": merged.adjusted,
        "padded": merged.padded,
        "other_tokens": merged.other_tokens,
        "recorded": reports.recorded_document(merged.recorded) if merged.recorded else None,
    }


def lines(merged: Merged) -> Iterator[str]:
    """A merge for people."""
    made = merged.recorded
    inputs = ", ".join(text.plain(n) for n in merged.input_names)
    what = f"{merged.method} of {inputs}" + (
        f" over {text.plain(merged.base_name or '')}" if merged.base else ""
    )
    if merged.init is not None:
        what += f", factors from {text.plain(merged.init_name or '')}"
    elif merged.products:
        what += ", through their products"
    yield f"{reports.name(made.name)} {reports.commit_id(made.commit)} = {what}" if made else what
    settings = ", ".join(f"{k} {_shown(v)}" for k, v in merged.parameters.items())
    if settings:
        yield settings
    counts = [text.count(len(merged.merged), "tensor") + " merged"]
    counts += [f"{len(merged.untouched)} the same in all"] if merged.untouched else []
    counts += [f"{len(merged.copied)} copied: no arithmetic"] if merged.copied else []
    counts += [f"{len(merged.converted)} of several dtypes"] if merged.converted else []
    yield ", ".join(counts)
    yield from reports.dequantised_lines(merged.dequantised)
    if merged.lost:
        worst = max(merged.lost, key=lambda k: merged.lost[k])
        share = text.percent(merged.lost[worst])
        yield f"cut off by the rank: at most {share} of an update ({text.plain(worst)})"
    if merged.padded:
        shown = text.join(merged.padded, 3)
        yield f"{len(merged.padded)} padded (rows that a model lacks change nothing): {shown}"
    if merged.other_tokens:
        shown = text.join(merged.other_tokens, 3)
        yield f"note: their tokenizers give these ids to other tokens, whose embeddings are merged: {shown}"
    for field, why in _ADJUSTED.items():
        if found := getattr(merged.adjusted, field):
            yield f"{len(found)} {field}{why}: {text.join(found, 3)}"
    if merged.apart:
        yield f"not merged: {text.join(merged.apart, 6)}"
    if made is None:
        yield "a dry run: nothing was committed"
    elif made.unchanged:
        yield from reports.unchanged_lines(made)
    else:
        yield f"stored {text.size(made.stored_bytes)} for {text.size(made.raw_bytes)} of weights"
        yield from reports.nonfinite_lines(made)
    if made is not None:
        yield reports.next_step(f"dvx checkout {made.name} -o DIR")


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(f"{v:g}" for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
