"""The targets of the project beside what this run measured. Nothing is written here but the limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .base import GIB, Result, duration, table
from .codec_contestants import OURS, OURS_ALONE, REFERENCE
from .history_commands import LOG, REBUILD, SQL, UP
from .model_bench import TARGET_MIB
from .thread_bench import SMALL


@dataclass(frozen=True)
class Target:
    """One line: what was asked for, what was measured, and if that meets it; None if not measured."""

    section: str
    what: str
    limit: str
    measured: str = "not measured"
    met: bool | None = None


def render(results: dict[str, Result]) -> list[str]:
    """The table; sections that did not run are not measured."""
    rows = [
        [one.what, one.limit, one.measured, {True: "met", False: "**not met**", None: "–"}[one.met],
         f"[{one.section}](#{one.section})"]
        for one in _all(results)
    ]  # fmt: skip
    return table(["target", "limit", "measured", "", "section"], rows)


def _all(results: dict[str, Result]) -> Iterator[Target]:
    yield from _codec(results.get("codec"))
    yield from _rest(results)


def _of(
    section: str, what: str, limit: str, holds: Callable[[float], bool], value: float | None, unit: str
) -> Target:
    if value is None:
        return Target(section, what, limit)
    return Target(section, what, limit, f"{value:.3f} {unit}".strip(), holds(value))


def _upto(section: str, what: str, limit: float, value: float | None, unit: str = "×") -> Target:
    return _of(section, what, f"≤ {limit:g} {unit}".strip(), lambda v: v <= limit, value, unit)


def _least(section: str, what: str, limit: float, value: float | None, unit: str = "×") -> Target:
    return _of(section, what, f"≥ {limit:g} {unit}".strip(), lambda v: v >= limit, value, unit)


class _Pair:
    """Ratios of one pair of the codec section; None where something is missing."""

    def __init__(self, pair: Result | None) -> None:
        self.pair = pair
        self.rows = {row["name"]: row for row in pair["rows"] if not row["failure"]} if pair else {}

    def size(self, other: str) -> float | None:
        """Everything counted, over the frames alone of the other."""
        if self.pair is None or other not in self.rows:
            return None
        return self.pair["pack"]["bytes"] / self.rows[other]["stored"]

    def speed(self, key: str, one: str, other: str) -> float | None:
        if one not in self.rows or other not in self.rows:
            return None
        return self.rows[other][f"{key}_s"] / self.rows[one][f"{key}_s"]

    def pack(self, key: str) -> float | None:
        """Of the pack's bytes; or the pack's bytes over `raw` or `ideal`."""
        if self.pair is None:
            return None
        size = self.pair["pack"]["bytes"]
        if key == "overhead":
            return self.pair["pack"]["overhead"] / size
        return size / self.pair[key] if self.pair[key] else None


def _codec(result: Result | None) -> Iterator[Target]:
    pairs = result["pairs"] if result else []

    def find(dtype: str, reference: str) -> _Pair:
        rows = (p for p in pairs if p["dtype"] == dtype and p["rows"][0]["name"] == reference)
        return _Pair(next(rows, None))

    bf16, fp32, base = find("BF16", REFERENCE), find("F32", REFERENCE), find("BF16", OURS_ALONE)
    level = result["level"] if result else ""
    best = bf16 if level.startswith("avx512") else _Pair(None)
    avx2 = ("", "") if level == "avx2" else (", avx2", ", avx2")
    yield _upto("codec", f"bf16 fine-tune, everything counted, to {REFERENCE}", 0.70, bf16.size(REFERENCE))
    yield _upto("codec", "the same to the ideal conditional entropy per tensor", 1.02, bf16.pack("ideal"))
    yield _least(
        "codec", f"decode, one thread, AVX-512, to {REFERENCE}", 1.5, best.speed("decode", OURS, REFERENCE)
    )
    yield _least(
        "codec",
        f"decode, one thread, AVX2, to {REFERENCE} on AVX2",
        0.8,
        bf16.speed("decode", OURS + avx2[0], REFERENCE + avx2[1]),
    )
    yield _least("codec", f"encode, one thread, to {REFERENCE}", 1.0, bf16.speed("encode", OURS, REFERENCE))
    yield _upto("codec", f"fp32 fine-tune, everything counted, to {REFERENCE}", 0.93, fp32.size(REFERENCE))
    yield _upto("codec", "bf16 base alone, everything counted, to raw", 0.675, base.pack("raw"))
    yield _least(
        "codec", "decode of a bf16 base alone, to ZipNN", 1.0, base.speed("decode", OURS_ALONE, "ZipNN")
    )
    yield _upto(
        "codec", "chunk tables, tables and heads of all stored bytes", 0.01, bf16.pack("overhead"), ""
    )


def _rest(results: dict[str, Result]) -> Iterator[Target]:
    threads, commands = results.get("threads"), results.get("commands")
    history = results.get("history")
    # What was asked for has a size; a smaller run does not say whether it is met.
    if commands and commands["bytes"] < 0.9 * GIB:
        commands = None
    if history and history["counts"] != [1_000, 100_000]:
        history = None
    for key in ("encode", "decode"):
        seconds = threads["seconds"][key] if threads and threads["cores"] > 1 else None
        value = seconds["1"] / seconds["2"] if seconds else None
        yield _least("threads", f"{key}, two threads to one", 1.8, value)
    small = threads["seconds"][SMALL] if threads and threads["cores"] > 1 else None
    measured = f"{small['1'] / small['2']:.3f} ×" if small else "not measured"
    yield Target("threads", f"{SMALL} (0.2 MB), two threads to one", "reported", measured)
    ratios = commands["ratios"] if commands else {}
    yield _upto("commands", "`dvx commit` of 1 GiB to ZipNN compressing it", 2, ratios.get("commit / ZipNN"))
    yield _upto("commands", "`dvx checkout` of 1 GiB to `cp`", 3, ratios.get("checkout / cp"))
    yield _memory(results.get("sizes"))
    start = history["start_up"]["ratio"] if history else None
    yield _upto("history", "`dvx log` on 1,000 commits to `import click, duckdb`", 4, start)
    small, large = (history["seconds"][str(n)] for n in history["counts"]) if history else ({}, {})
    for name in (LOG, UP, SQL):
        value = large[name] / small[name] if history else None
        what = f"{name}: 100,000 commits to 1,000"
        yield _of("history", what, "< 10 ×", lambda v: v < 10, value, "×")
    seconds = large.get(REBUILD)
    yield Target(
        "history",
        f"{REBUILD} on 100,000 commits",
        "reported",
        duration(seconds) if seconds else "not measured",
    )


def _memory(result: Result | None) -> Target:
    what = "memory: all commands on 4 GiB, largest tensor 512 MiB"
    limit = f"< {TARGET_MIB:.0f} MiB"
    found = [one for one in result["sizes"] if one["gib"] == 4] if result else []
    if not found:
        return Target("memory", what, limit)
    peak = max(row["peak_mib"] for row in found[0]["commands"].values())
    return Target("memory", what, limit, f"{peak:.0f} MiB", peak < TARGET_MIB)
