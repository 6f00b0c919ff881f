"""Whole commands on long histories, and the start-up time."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from deltavcs.repo import init_repository

from . import plots
from .base import Context, Result, alternate, command, duration, dvx, median, program, ratio, say, table
from .history_bench import SQL_LINEAGE, Maker

TENSORS = 12
LOG, UP, SQL, REBUILD = (
    "dvx log -n 20",
    "dvx lineage run0 --up",
    "dvx sql, log and lineage",
    "dvx index rebuild",
)
COMMANDS: dict[str, list[object]] = {
    LOG: ["log", "-n", "20"],
    UP: ["lineage", "run0", "--up"],
    SQL: ["sql", SQL_LINEAGE],
    "dvx sql, tensors of a commit": [
        "sql",
        "SELECT l.names, t.name, t.l2, t.codec FROM log l JOIN tensors t USING (commit) "
        "WHERE l.names = 'run0' ORDER BY t.l2 DESC",
    ],
    "dvx lineage run0 --down": ["lineage", "run0", "--down"],
    "dvx lineage llama3.0 --down": ["lineage", "llama3.0", "--down"],
    "dvx du run0": ["du", "run0"],
}
REBUILDING: list[object] = ["index", "rebuild"]


def run(ctx: Context) -> Result:
    """Make the repositories and time the commands on each."""
    counts = [20, 40] if ctx.quick else [1_000, 100_000]
    found: dict[str, dict[str, float]] = {}
    with ctx.folder("history") as folder:
        for count in counts:
            say(f"  {count} commits")
            found[str(count)] = _measure(folder / str(count), count, ctx.reps(5), ctx.quick)
        start_up = _start_up(folder / str(counts[0]), ctx.reps(15))
        shutil.rmtree(folder / str(counts[-1]))
    return {"counts": counts, "seconds": found, "start_up": start_up, "rounds": ctx.reps(5)}


def _measure(repo: Path, count: int, reps: int, quick: bool) -> dict[str, float]:
    root = init_repository(repo, sync=False).path
    Maker(root, TENSORS).history(count)
    found = {REBUILD: dvx(repo, *REBUILDING).seconds}
    chosen = {name: words for name, words in COMMANDS.items() if not quick or name in (LOG, SQL)}
    times = alternate({name: partial(_seconds, repo, words) for name, words in chosen.items()}, reps)
    found.update({name: median(values) for name, values in times.items()})
    found["index, MB"] = sum(p.stat().st_size for p in (root / "index").iterdir()) / 1e6
    return found


def _seconds(repo: Path, words: list[object]) -> float:
    return dvx(repo, *words).seconds


def _start_up(repo: Path, reps: int) -> Result:
    contestants: dict[str, Callable[[], float]] = {
        "dvx log": lambda: command([program("dvx"), "log", "--repo", str(repo)]),
        "python -c 'import click, duckdb'": lambda: command([sys.executable, "-c", "import click, duckdb"]),
        "dvx --version": lambda: command([program("dvx"), "--version"]),
    }
    times = alternate(contestants, reps)
    one, other = (times[name] for name in list(contestants)[:2])
    pairs = median(a / b for a, b in zip(one, other, strict=True))
    return {
        "seconds": {name: median(values) for name, values in times.items()},
        "ratio": pairs,
        "rounds": reps,
    }


def render(result: Result) -> list[str]:
    small, large = (result["seconds"][str(n)] for n in result["counts"])
    heads = ["", *(f"{n:,} commits" for n in result["counts"]), "ratio"]
    lines = [
        f"Synthetic histories: runs of 500 checkpoints of {TENSORS} tensors, each with a pack of its own, "
        "every tenth run started by a transfer. Whole commands, start-up included, median of "
        f"{result['rounds']} runs in turn; the index is up to date, and rebuilt once.",
        "",
        f"![seconds by history]({plots.IMAGES}/history.svg)",
        "",
    ]
    rows = []
    for name, value in small.items():
        show = (lambda x: f"{x:.1f}") if "MB" in name else duration
        label = f"`{name}`" if name.startswith("dvx") and "," not in name else name
        rows.append([label, show(value), show(large[name]), ratio(large[name] / value)])
    lines += table(heads, rows)
    start = result["start_up"]
    slow = [f"`{n}`" for n in small if n.startswith("dvx") and large[n] >= 10 * small[n]]
    if slow:
        lines += [f"Ten times slower or more on the long history: {', '.join(slow)}.", ""]
    lines += [f"Start-up, on {result['counts'][0]:,} commits, median of {start['rounds']} runs in turn:", ""]
    rows = [[f"`{name}`", duration(value)] for name, value in start["seconds"].items()]
    return lines + table(["", "seconds"], [*rows, ["first / second, median of pairs", ratio(start["ratio"])]])


def plot(result: Result, folder: Path) -> None:
    small, large = (result["seconds"][str(n)] for n in result["counts"])
    rows = {n: (v, large[n]) for n, v in small.items() if "MB" not in n}
    labels = [f"{n:,} commits" for n in result["counts"]]
    plots.pairs(folder / "history.svg", rows, *labels)
