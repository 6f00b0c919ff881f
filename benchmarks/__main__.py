"""Measure everything and write `docs/benchmarks.md`.

    python -m benchmarks                     all of it
    python -m benchmarks --only codec        one section; the others keep their last results
    python -m benchmarks --quick             tiny sizes, to see that it runs; the numbers mean nothing

Results are kept in `build/benchmarks/results.json`, so that a section can be measured again by itself.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from . import (
    codec_bench,
    command_bench,
    history_commands,
    machine,
    model_bench,
    plots,
    stage_bench,
    targets,
    thread_bench,
)
from .base import ROOT, SHARED, Context, Result, Section, say

SECTIONS = (
    Section("codec", "Size and speed of the codec", codec_bench.run, codec_bench.render, codec_bench.plot),
    Section("threads", "Scaling with threads", thread_bench.run, thread_bench.render),
    Section("commands", "Whole commands on 1 GiB", command_bench.run, command_bench.render),
    Section("stages", "Where the time goes", stage_bench.run, stage_bench.render, stage_bench.plot),
    Section("sizes", "Growing models", model_bench.run, model_bench.render, model_bench.plot),
    Section(
        "history",
        "Long histories and start-up",
        history_commands.run,
        history_commands.render,
        history_commands.plot,
    ),
)
RESULTS = ROOT / "build" / "benchmarks" / "results.json"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [section.name for section in SECTIONS]
    parser.add_argument("--only", choices=names, action="append", help="measure this section; repeatable")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round")
    parser.add_argument("--gib-max", type=float, default=4.0, help="largest model (default %(default)s)")
    parser.add_argument("--data", type=Path, default=SHARED, help="folder with pairs of checkpoints")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "deltavcs-bench")
    parser.add_argument("--output", type=Path, help="folder for benchmarks.md and img/ (default docs)")
    parser.add_argument("--render", action="store_true", help="measure nothing; write the page again")
    parser.add_argument("--note", help="what a reader must know of this run, such as other load")
    args = parser.parse_args()
    # A quick run says nothing about speed: it must not touch the page or the results that do.
    output = args.output or (args.work / "quick" if args.quick else ROOT / "docs")
    results = output / "results.json" if args.quick or args.output else RESULTS
    ctx = Context(args.work, args.data, args.quick, args.gib_max)
    state = _load(results)
    state["machine"] = machine.describe(args.work, args.quick) if not args.render else state["machine"]
    state["quick"] = args.quick
    if args.note is not None:
        state["note"] = args.note
    for section in SECTIONS:
        if args.render or (args.only and section.name not in args.only):
            continue
        say(f"{section.name}: {section.title}")
        started = time.monotonic()
        found = section.run(ctx)
        state["sections"][section.name] = {"date": machine.now(), "result": found}
        say(f"  {time.monotonic() - started:.0f} s")
        results.parent.mkdir(parents=True, exist_ok=True)
        results.write_text(json.dumps(state, indent=1) + "\n")
    write(state, output)
    say(f"wrote {output / 'benchmarks.md'}")


def _load(path: Path) -> Result:
    """Earlier results, of this machine or not: every section says when it was measured."""
    if path.exists():
        return json.loads(path.read_text())
    return {"machine": {}, "sections": {}}


def write(state: Result, output: Path) -> None:
    """Write the page and its drawings."""
    sections = state["sections"]
    lines = [
        "# Benchmarks",
        "",
        "<!-- Written by `python -m benchmarks`; do not edit. -->",
        "",
        "`make bench` measures all of this and writes this page. Figures are of one machine; ratios are "
        "between things that took turns in one run.",
        "",
        *(["**A quick run: tiny sizes, the numbers mean nothing.**", ""] if state["quick"] else []),
        *([f"**{state['note']}**", ""] if state.get("note") else []),
        *machine.render(state["machine"]),
        "## Targets",
        "",
        *targets.render({name: one["result"] for name, one in sections.items()}),
    ]
    for section in SECTIONS:
        if section.name not in sections:
            continue
        kept = sections[section.name]
        lines += [f'<a id="{section.name}"></a>', "", f"## {section.title}", ""]
        lines += [f"`python -m benchmarks --only {section.name}`, {kept['date']}", ""]
        lines += section.render(kept["result"])
        if section.name == "sizes":
            lines += ['<a id="memory"></a>', "", "## Memory", ""]
            lines += [f"`python -m benchmarks --only sizes`, {kept['date']}", ""]
            lines += model_bench.render_memory(kept["result"])
        if section.plot is not None and plots.available():
            section.plot(kept["result"], output / plots.IMAGES)
    if not plots.available():
        lines = [line for line in lines if not line.startswith("![")]
    output.mkdir(parents=True, exist_ok=True)
    (output / "benchmarks.md").write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
