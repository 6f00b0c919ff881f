"""Whole commands on 1 GiB, beside what a user would run instead."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from deltavcs.repo import init_repository
from deltavcs.resources import available_cores

from .base import (
    GIB,
    MIB,
    Context,
    Result,
    alternate,
    command,
    duration,
    dvx,
    median,
    program,
    ratio,
    say,
    settle,
    table,
)
from .data import write_large_pair

COMMIT, CHECKOUT = "dvx commit", "dvx checkout"
COMMIT_1, CHECKOUT_1 = "dvx commit, 1 thread", "dvx checkout, 1 thread"
_ZIPNN = """
import sys, time, numpy as np, zipnn
data = bytearray(np.fromfile(sys.argv[1], np.uint8))
if len(sys.argv) > 3:
    data = bytearray(np.bitwise_xor(np.frombuffer(data, np.uint8), np.fromfile(sys.argv[3], np.uint8)))
coder = zipnn.ZipNN(input_format="byte", bytearray_dtype="bfloat16", threads=int(sys.argv[2]))
start = time.perf_counter()
stored = coder.compress(data)
print(time.perf_counter() - start, len(stored))
"""


def run(ctx: Context) -> Result:
    """Commit and checkout, each in turn with what it is compared with."""
    threads = available_cores()
    with ctx.folder("commands") as folder:
        say("  making the files")
        what = write_large_pair(ctx, folder, 2 * MIB if ctx.quick else GIB)
        base, tuned = folder / "base/model.safetensors", folder / "tuned/model.safetensors"
        n_bytes, repo, sizes = tuned.stat().st_size, folder / "repo", {}
        init_repository(repo)
        dvx(repo, "import", base, "--as", "base")
        say("  commit, ZipNN")
        writers = _writers(repo, base, tuned, threads, sizes)
        writing = _in_turn(writers, ctx.reps(5), ctx.quick)
        before = _packed(repo)
        dvx(repo, "commit", tuned, "--base", "base", "--as", "tuned")
        sizes[COMMIT] = _packed(repo) - before
        say("  checkout, cp")
        readers = _readers(repo, tuned, folder / "out", threads)
        reading = _in_turn(readers, ctx.reps(5), ctx.quick)
        parts = _parts(repo, folder / "out", ctx.reps(3))
        say("  sha256sum, git add")
        others = {"sha256sum": [command(["sha256sum", str(tuned)]) for _ in range(ctx.reps(3))]}
        if shutil.which("git"):
            settle()
            seconds, sizes["git add"] = _git_add(folder / "git", tuned)
            others["git add"] = [seconds]
    times = {**writing, **reading, **others}
    return {
        "what": what,
        "bytes": n_bytes,
        "threads": threads,
        "seconds": {name: median(found) for name, found in times.items()},
        "range": {name: [min(found), max(found), len(found)] for name, found in times.items()},
        "ratios": {
            "commit / ZipNN": _paired(writing, COMMIT, "ZipNN compress"),
            "checkout / cp": _paired(reading, CHECKOUT, "cp"),
            "checkout / cp, the fastest run of each": min(reading[CHECKOUT]) / min(reading["cp"]),
            "checkout / cp && sync": _paired(reading, CHECKOUT, "cp && sync"),
            "commit, 1 thread / all": _paired(writing, COMMIT_1, COMMIT),
            "checkout, 1 thread / all": _paired(reading, CHECKOUT_1, CHECKOUT),
        },
        "sizes": sizes,
        "checkout": parts,
    }


def _writers(
    repo: Path, base: Path, tuned: Path, threads: int, sizes: dict[str, int]
) -> dict[str, Callable[[], float]]:
    found: dict[str, Callable[[], float]] = {COMMIT: partial(_commit, repo, tuned, threads)}
    if importlib.util.find_spec("zipnn"):
        found["ZipNN compress"] = partial(_zipnn, sizes, "ZipNN compress", tuned, threads)
        found["ZipNN compress, XOR"] = partial(_zipnn, sizes, "ZipNN compress, XOR", tuned, threads, base)
    if threads > 1:
        found[COMMIT_1] = partial(_commit, repo, tuned, 1)
    return found


def _readers(repo: Path, tuned: Path, out: Path, threads: int) -> dict[str, Callable[[], float]]:
    found: dict[str, Callable[[], float]] = {
        CHECKOUT: partial(_checkout, repo, tuned, out, threads),
        "cp": partial(_cp, tuned, out, "cp {} {}"),
        "cp && sync": partial(_cp, tuned, out, "cp {0} {1} && sync {1}"),
    }
    if threads > 1:
        found[CHECKOUT_1] = partial(_checkout, repo, tuned, out, 1)
    return found


def _in_turn(contestants: dict[str, Callable[[], float]], reps: int, quick: bool) -> dict[str, list[float]]:
    """The first two in turn; the others, which only complete the picture, less often."""
    names = list(contestants)
    times = alternate({name: contestants[name] for name in names[:2]}, reps)
    rest = {name: contestants[name] for name in names[2:] if not quick}
    return {**times, **alternate(rest, min(reps, 2))}


def _paired(times: dict[str, list[float]], one: str, other: str) -> float | None:
    """The median of the ratios of neighbouring runs."""
    if one not in times or other not in times:
        return None
    return median(a / b for a, b in zip(times[one], times[other], strict=False))


def _packed(repo: Path) -> int:
    return sum(p.stat().st_size for p in (repo / ".dvx/packs").iterdir())


@contextmanager
def _copy(repo: Path) -> Iterator[Path]:
    """A repository like `repo` that can be changed; packs are never written to, so they are linked."""

    def copy(source: str, target: str) -> None:
        (os.link if Path(source).suffix == ".pack" else shutil.copy2)(source, target)

    other = repo.with_name("copy")
    shutil.copytree(repo, other, copy_function=copy)
    try:
        yield other
    finally:
        shutil.rmtree(other)


def _commit(repo: Path, tuned: Path, threads: int) -> float:
    with _copy(repo) as fresh:
        _warm(tuned, *fresh.glob(".dvx/packs/*.pack"))
        return dvx(fresh, "commit", tuned, "--base", "base", "--as", "tuned", "--threads", threads).seconds


def _checkout(repo: Path, tuned: Path, out: Path, threads: int) -> float:
    _warm(*repo.glob(".dvx/packs/*.pack"))
    seconds = dvx(repo, "checkout", "tuned", "-o", out, "--threads", threads).seconds
    subprocess.run(["cmp", str(tuned), str(out / tuned.name)], check=True)
    shutil.rmtree(out)
    return seconds


def _cp(tuned: Path, out: Path, line: str) -> float:
    _warm(tuned)
    out.mkdir()
    try:
        return command(["sh", "-c", line.format(tuned, out / tuned.name)])
    finally:
        shutil.rmtree(out)


def _parts(repo: Path, out: Path, reps: int) -> Result:
    """What a checkout consists of: start-up, and the seconds of its stages, all threads together."""
    settle()
    done = dvx(repo, "checkout", "tuned", "-o", out, "--profile")
    shutil.rmtree(out)
    start = median(command([program("dvx"), "log", "--repo", str(repo)]) for _ in range(reps))
    return {"start": start, "stages": {row["stage"]: row["seconds"] for row in done.output["profile"]}}


def _warm(*paths: Path) -> None:
    """Read files so that they are in the page cache."""
    buffer = bytearray(8 * MIB)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def _zipnn(sizes: dict[str, int], name: str, tuned: Path, threads: int, *base: Path) -> float:
    words = [sys.executable, "-c", _ZIPNN, str(tuned), str(threads), *map(str, base)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-2:]
    sizes[name] = int(done[1])
    return float(done[0])


def _git_add(folder: Path, tuned: Path) -> tuple[float, int]:
    folder.mkdir()
    command(["git", "init"], cwd=folder)
    os.link(tuned, folder / tuned.name)
    seconds = command(["git", "add", tuned.name], cwd=folder)
    return seconds, sum(p.stat().st_size for p in (folder / ".git/objects").rglob("*") if p.is_file())


def render(result: Result) -> list[str]:
    seconds, n_bytes = result["seconds"], result["bytes"]
    lines = [
        f"One file of {n_bytes / GIB:.2f} GiB of bf16 ({result['what']}; real weights and real updates, the "
        "elements of each copy shuffled, in base and fine-tune alike, stacked by eight). Medians of runs in "
        f"turn, files in the page cache, {result['threads']} threads unless the name says otherwise. `dvx` "
        "is timed as a whole command: start-up, hashing, reading and decoding the base, and for commit "
        "fsync. Of ZipNN only the call counts, from memory to memory. Neither `cp` nor `dvx checkout` waits "
        "for the disk.",
        "",
    ]
    rows = []
    for name, value in seconds.items():
        low, high, n = result["range"][name]
        size = result["sizes"].get(name)
        share = f"{size / n_bytes:.4f}" if size else "–"
        spread = f"{duration(low)} – {duration(high)}"
        rows.append([name, duration(value), spread, str(n), f"{n_bytes / value / 1e9:.2f}", share])
    lines += table(["command", "median", "range", "runs", "GB/s of raw", "stored / raw"], rows)
    found = [[name, ratio(value)] for name, value in result["ratios"].items() if value is not None]
    return [*lines, *table(["median of the paired ratios", ""], found), *_to_two(result), ""]


def _to_two(result: Result) -> list[str]:
    """What would bring checkout to twice the time of cp."""
    now, two = result["seconds"][CHECKOUT], 2 * result["seconds"]["cp"]
    parts = result["checkout"]
    stages = ", ".join(f"{name} {s / result['threads']:.2f} s" for name, s in parts["stages"].items())
    verdict = f"{now - two:.2f} s over" if now > two else f"{two - now:.2f} s under"
    return [
        f"`dvx checkout` to 2 × `cp`: it takes {now:.2f} s, {verdict} 2 × `cp` ({two:.2f} s). Of its time, "
        f"about {parts['start']:.2f} s are start-up (as for `dvx log`); then, per thread: {stages}. "
        "Writing costs at least what `cp` costs, as both copy into the page cache; the rest is what decoding "
        "may take, divided by the number of cores."
    ]
