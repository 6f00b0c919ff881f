"""Where the time of a commit and a checkout goes: `dvx … --profile` on 1 GiB."""

from __future__ import annotations

import shutil
from pathlib import Path

from deltavcs.repo import init_repository

from . import plots
from .base import GIB, MIB, CommandFailed, Context, Result, dvx, settle, table
from .data import write_large_pair


def run(ctx: Context) -> Result:
    """Profile import, commit and checkout, twice: the second run of each is kept."""
    commands = {}
    with ctx.folder("stages") as folder:
        what = write_large_pair(ctx, folder, 2 * MIB if ctx.quick else GIB)
        for turn in range(ctx.reps(2)):
            repo, out = folder / f"repo{turn}", folder / "out"
            init_repository(repo)
            steps = {
                "import": ["import", folder / "base/model.safetensors", "--as", "base"],
                "commit": ["commit", folder / "tuned/model.safetensors", "--base", "base", "--as", "tuned"],
                "checkout": ["checkout", "tuned", "-o", out],
            }
            for name, words in steps.items():
                settle()
                commands[name] = _profiled(repo, words)
            shutil.rmtree(out)
            shutil.rmtree(repo)
    return {"what": what, "commands": commands}


def _profiled(repo: Path, words: list[object]) -> Result:
    """A run with --profile; without it if this command has none."""
    try:
        done = dvx(repo, *words, "--profile")
    except CommandFailed as exc:
        if "--profile" not in str(exc):
            raise
        done = dvx(repo, *words)
    return {"seconds": done.seconds, "profile": done.output.get("profile")}


def render(result: Result) -> list[str]:
    lines = [
        f"`dvx … --profile --json` on the 1 GiB of the section above ({result['what']}). Seconds of all "
        "threads together; the command's own time is in the heading of each table.",
        "",
    ]
    if any(one["profile"] for one in result["commands"].values()):
        lines += [f"![stages]({plots.IMAGES}/stages.svg)", ""]
    for name, one in result["commands"].items():
        if not one["profile"]:
            lines += [f"`dvx {name}` ({one['seconds']:.2f} s) has no `--profile`.", ""]
            continue
        rows = [
            [row["stage"], f"{row['seconds']:.3f}", f"{row['gb_per_s']:.2f}" if row.get("gb_per_s") else "–",
             f"{row['bytes'] / 1e6:.0f}"]
            for row in one["profile"]
        ]  # fmt: skip
        lines += table([f"`dvx {name}`, {one['seconds']:.2f} s", "seconds", "GB/s and thread", "MB"], rows)
    return lines


def plot(result: Result, folder: Path) -> None:
    bars = {
        f"dvx {name}": {row["stage"]: row["seconds"] for row in one["profile"]}
        for name, one in result["commands"].items()
        if one["profile"]
    }
    if bars:
        plots.stacked(folder / "stages.svg", bars, "seconds, all threads together")
