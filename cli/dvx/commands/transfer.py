"""`dvx transfer`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

import deltavcs as dv
from dvx import evaluating, options, reports, terminal, text
from dvx.app import command
from dvx.exits import CONFLICT, INTEGRITY, STORAGE
from dvx.options import REVISION
from dvx.session import Session
from dvx.table import Column, table

if TYPE_CHECKING:
    from deltavcs.checkpoint.config_differences import ConfigDifference
    from deltavcs.porcelain.connectivity import Segment
    from deltavcs.porcelain.transfer import Transferred
    from deltavcs.repo import Repository

_FIELDS = (
    "matched", "padded", "missing", "extra", "renamed", "converted", "copied", "filled", "untied", "ignored",
    "added",
)  # fmt: skip
_MEANING = {
    "padded": "rows that one of them lacks count as zeros",
    "missing": "kept from the target: another one lacks them",
    "extra": "left out: the target lacks them; --config finetune keeps what the fine-tune alone has",
    "added": "of the fine-tune alone, carried over whole",
    "renamed": "",
    "converted": "",
    "copied": "kept from the target: no arithmetic on this dtype",
    "filled": "tied, so the embedding stands for it",
    "untied": "trained apart, so the result no longer ties it as the target does",
    "ignored": "buffers that no model needs; kept from the target",
}
_NOTES = {
    "shared_rows": "note: rows that the fine-tune and the target both added; if they are other tokens, their"
    " embeddings are added up",
    "bare_rows": "note: rows that only the target lacks hold the difference alone, and no token of it",
    "other_tokens": "note: their tokenizers give these ids to other tokens, whose embeddings are added up",
    "guessed": "note: taken for the vocabulary by their names alone",
}
_OF_ADAPTER = {**_MEANING, "copied": "carried over as they are: neither base has them"}
_NEAR, _ALONG = 0.5, 0.1
_SETTINGS = 12
_WHOSE = {"target": "target", "finetune": "fine-tune"}


@command(
    examples=[
        ("dvx transfer --from v1 --to v2", "the one fine-tune of v1, onto v2"),
        ("dvx transfer --from v1 --to v2 --all --dry-run", "how would all of them fit?"),
        ("dvx transfer --from chat --to v2 --scale 0.8 --as v2-chat", "part of the way"),
        ("dvx transfer --from lora --to v2", "an adapter: the same factors on another base"),
    ],
    statuses=(CONFLICT, INTEGRITY, STORAGE),
)
@click.option(
    "--from",
    "from_",
    required=True,
    type=REVISION,
    metavar="REV",
    help="A base with a fine-tune, or a fine-tune or adapter.",
)
@click.option("--to", required=True, type=REVISION, metavar="REV", help="The base that gets it.")
@click.option(
    "--delta", "deltas", type=REVISION, multiple=True, metavar="REV", help="Which fine-tune; repeatable."
)
@click.option("--all", "every", is_flag=True, help="Every fine-tune of the base.")
@click.option(
    "--scale",
    type=options.FACTOR,
    default=1.0,
    metavar="λ",
    show_default=True,
    help="Factor of the difference.",
)
@click.option("--as", "name", metavar="NAME", help="The branch; by default TO+DELTA.")
@click.option(
    "--vocab",
    type=click.Choice(["pad", "strict"]),
    default="pad",
    show_default=True,
    help="Vocabularies of other sizes: count missing rows as zeros, or refuse.",
)
@click.option(
    "--config",
    type=click.Choice(["target", "finetune"]),
    default="target",
    show_default=True,
    help="Whose config.json the result has; the report lists where they differ.",
)
@click.option(
    "--probe-task",
    metavar="TASK",
    help="Measure the loss of a task between the two bases; see 'dvx connectivity'.",
)
@click.option("--fold", is_flag=True, help="Adapters: fold them into the new base.")
@click.option("-n", "--dry-run", is_flag=True, help="Report how they fit, and commit nothing.")
@options.dequantized
@options.message
@options.onto
@options.works
@options.profiled
def transfer(
    session: Session,
    from_: str,
    to: str,
    deltas: tuple[str, ...],
    every: bool,
    scale: float,
    name: str | None,
    vocab: str,
    config: str,
    probe_task: str | None,
    fold: bool,
    dry_run: bool,
    dequantize: bool,
    message: str,
    force: bool,
) -> None:
    """Carry a fine-tune over to another base.

    The result is TO + λ · (fine-tune - its base).

    --from names a base, whose single fine-tune is taken, or a fine-tune. With several fine-tunes choose
    with --delta, or take them --all.

    The result is stored as a rule: it takes kilobytes, and 'dvx checkout' computes it, in float64 and
    rounded once. An adapter's factors are kept as they are and committed for the new base, where λ scales
    their alpha; with --fold the result is that base with the adapter in it.

    The report says which tensors took part, and how near the bases are.
    """
    with session.working() as repo:
        done = dv.transfer(
            repo,
            from_,
            to,
            deltas=deltas or ("all" if every else ()),
            scale=scale,
            carrying=dv.Carrying(vocab=vocab, config=config, fold=fold, dequantize=dequantize),
            draft=dv.Draft(name, message, force=force),
            dry_run=dry_run,
        )
        probes = [_probe(repo, one, probe_task) for one in done] if probe_task is not None else []
    session.emit(
        lambda: {"dry_run": dry_run, "transfers": [_document(*one) for one in _with(done, probes)]},
        _lines(_with(done, probes), session.width),
    )
    for one in done:
        session.note(reports.overflow_note(one.recorded.overflowed if one.recorded else {}))


def _probe(repo: Repository, done: Transferred, task: str) -> Segment:
    """The loss of a task between the two bases of a transfer."""
    running = evaluating.make_running(evaluating.SAMPLES, 0, (), None, "auto")
    return dv.connectivity(repo, done.source_commit, done.target_commit, task, running=running)


def _with(done: list[Transferred], probes: list[Segment]) -> list[tuple[Transferred, Segment | None]]:
    """Every transfer with its probe, if one was asked for."""
    return list(zip(done, probes, strict=True)) if probes else [(one, None) for one in done]


def _document(done: Transferred, probe: Segment | None) -> dict[str, object]:
    return {
        "delta": done.delta,
        "source": done.source,
        "target": done.target,
        "name": done.name,
        "scale": done.scale,
        "recipe": done.recipe,
        "backport": done.backport,
        "adapter": done.adapter,
        "folded": done.folded,
        "compatibility": done.compatibility,
        "dequantized": done.dequantised,
        "config": done.carried.config if done.carried else None,
        "config_differences": done.carried.differences if done.carried else (),
        "side_files": done.carried.side if done.carried else None,
        "geometry": {
            group: {
                "base_l2": g.base,
                "drift_l2": g.drift,
                "delta_l2": g.delta,
                "relative_drift": g.relative_drift,
                "cosine": g.cosine,
            }
            for group, g in done.geometry.items()
        },
        "connectivity": probe,
        "recorded": reports.recorded_document(done.recorded) if done.recorded else None,
    }


def _lines(done: list[tuple[Transferred, Segment | None]], width: int | None) -> Iterator[str]:
    for i, (one, probe) in enumerate(done):
        if i:
            yield ""
        yield from _report(one, probe, width)


def _report(done: Transferred, probe: Segment | None, width: int | None) -> Iterator[str]:
    factor = "" if done.scale == 1 else f"{done.scale:g} · "
    recipe = f"{done.target} + {factor}({done.delta} - {done.source})"
    verb = "backport" if done.backport else "recycle"
    made = done.recorded
    shown_id = f" {reports.commit_id(made.commit)}" if made else ""
    yield f"{reports.name(done.name)}{shown_id} = {text.plain(recipe)}   ({verb})"
    yield from _compatibility(done)
    yield from reports.dequantised_lines(done.dequantised)
    yield from _plain_files(done)
    yield ""
    yield from _geometry(done, width)
    yield ""
    yield from text.wrapped(_meaning(done), width)
    if probe is not None:
        yield from _curve(probe, width)
    if made is None:
        yield "a dry run: nothing was committed"
    elif made.unchanged:
        yield from reports.unchanged_lines(made)
    else:
        yield f"stored {text.size(made.stored_bytes)} for {text.size(made.raw_bytes)} of weights"
        yield from reports.nonfinite_lines(made)
    if made is not None:
        yield reports.next_step(f"dvx checkout {done.name} -o DIR")


def _curve(found: Segment, width: int | None) -> Iterator[str]:
    room = 60 if width is None else max(10, min(60, width - 14))
    yield ""
    yield from found.text(width=room, ascii_only=not terminal.shows_lines(sys.stdout)).splitlines()
    yield f"{text.plain(found.task)}, {text.count(found.n_samples, 'row')} ({found.split})"
    yield ""


def _compatibility(done: Transferred) -> Iterator[str]:
    found = done.compatibility
    counts = {field: len(getattr(found, field)) for field in _FIELDS}
    others = ", ".join(f"{n} {field}" for field, n in counts.items() if n and field != "matched")
    if done.adapter:
        what = "folded into" if done.folded else "kept as an adapter for"
        yield f"{text.count(counts['matched'], 'weight')} adapted, {what} {text.plain(done.target)}" + (
            f"; {others}" if others else ""
        )
    else:
        yield f"{text.count(counts['matched'], 'tensor')} matched" + (
            f"; {others}" if others else ", none left over"
        )
    for field, why in (_OF_ADAPTER if done.adapter else _MEANING).items():
        if counts[field]:
            note = f" ({why})" if why else ""
            yield f"  {field}{note}: {text.join(getattr(found, field), 3)}"
    for field, note in _NOTES.items():
        if getattr(found, field):
            yield f"{note}: {text.join(getattr(found, field), 3)}"


def _plain_files(done: Transferred) -> Iterator[str]:
    """Whose tokenizer and configuration, what differs, and which weights took no part."""
    apart = done.compatibility.apart
    if apart:
        yield f"  apart (weights that took no part): {text.join(apart, 6)}"
    if done.carried is None:
        return
    side = done.carried.side
    for folder, whose in side.tokenizer.items():
        where = f" in {text.plain(folder)}" if folder else ""
        yield f"tokenizer{where}: the {_WHOSE[whose]}'s"
    if side.left_out:
        yield f"  left out, since the fine-tune has no whole tokenizer: {text.join(side.left_out, 6)}"
    found = done.carried.differences
    if not found:
        return
    yield f"config.json: the {_WHOSE[done.carried.config]}'s; {text.count(len(found), 'setting')} differ" + (
        "s" if len(found) == 1 else ""
    )
    for one in found[:_SETTINGS]:
        yield f"  {_setting(one, done.carried.config)}"
    if len(found) > _SETTINGS:
        yield f"  and {len(found) - _SETTINGS} more, which --json lists"


def _setting(one: ConfigDifference, config: str) -> str:
    """A setting in which the configurations differ, and who changed it."""
    place = "" if one.path == "config.json" else f"{one.path.rpartition('/')[0]}: "
    tuned = f"{text.brief_json(one.finetune)} in the fine-tune"
    if one.finetune != one.source:
        tuned += f" ({text.brief_json(one.source)} in its base)"
    note = "" if one.written == config else f"; the {_WHOSE[one.written]}'s is taken"
    return text.plain(f"{place}{one.key}: {text.brief_json(one.target)} in the target, {tuned}{note}")


def _geometry(done: Transferred, width: int | None) -> Iterator[str]:
    columns = [
        Column("tensors"),
        Column("‖m_t-m_s‖/‖m_s‖", right=True),
        Column("‖Δ‖", right=True),
        Column("‖Δ‖/‖m_s‖", right=True, spare=True),
        Column("cos(Δ, m_t-m_s)", right=True),
    ]
    groups = sorted(done.geometry, key=lambda g: (g == "all", g))
    rows = []
    for group in groups:
        g = done.geometry[group]
        rows.append(
            (
                group,
                text.number(g.relative_drift),
                text.number(g.delta),
                text.number(g.delta / g.base if g.base else None),
                "-" if g.cosine is None else f"{g.cosine:+.3f}",
            )
        )
    return table(columns, rows, width=width, indent=2)


def _meaning(done: Transferred) -> str:
    """One sentence on what the numbers say, and no more than they say."""
    whole = done.geometry["all"]
    drift, cosine = whole.relative_drift, whole.cosine
    what = "adapter" if done.adapter else "fine-tune"
    if not whole.delta:
        return f"The {what} does not differ from its base, so nothing is carried over."
    if done.adapter and not whole.base:
        return "The weights of both bases could not be compared; what the adapter adds was measured."
    if drift is None or not whole.drift:
        return f"Both bases have the same weights, so the result is the {what} itself."
    far = f"The bases lie {text.percent(drift)} of a norm apart, " + (
        "near enough that this often works" if drift < _NEAR else "so far that this often fails"
    )
    if cosine is None or abs(cosine) < _ALONG:
        way = "and Δ is nearly orthogonal to the step between them."
    elif cosine > 0:
        way = "and Δ points partly the same way as the step between them: some of it is there already."
    else:
        way = "and Δ points partly against the step between them."
    return f"{far}, {way} Only an evaluation tells."
