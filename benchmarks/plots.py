"""The drawings: small SVGs with real text. Without matplotlib none is drawn."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

try:
    import matplotlib as mpl
    from matplotlib.figure import Figure
except ImportError:
    mpl = None

IMAGES = "img"
BLUE, GREY, INK = "#1f6feb", "#9aa4af", "#24292f"
SHADES = ("#1f6feb", "#e3863b", "#2da06f", "#c5486b", "#8a63d2", "#4aa8c0", "#b8a03a", "#7a7f87", "#d98cb3")
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "deltavcs",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "grid.color": "#e6e9ec",
    "axes.axisbelow": True,
}


def available() -> bool:
    """False if matplotlib is not installed."""
    return mpl is not None


@contextlib.contextmanager
def _figure(path: Path, width: float, height: float) -> Iterator[Any]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None})


def size_against_speed(
    path: Path, points: dict[str, tuple[float, float, float]], ideal: float, ours: str
) -> None:
    """Stored share over encode and decode speed; `points` are (share, encode, decode)."""
    with _figure(path, 9.5, 4.6) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        for axis, which, title in ((panels[0], 2, "decode"), (panels[1], 1, "encode")):
            axis.set_xscale("log")
            axis.set_xlabel(f"{title}, GB/s of one thread")
            if ideal:
                axis.axhline(ideal, color=GREY, linewidth=0.8, linestyle="--")
            speeds = [point[which] for point in points.values()]
            axis.set_xlim(min(speeds) / 1.6, max(speeds) * 3.2)
            for name, point in points.items():
                mine = name.startswith(ours)
                axis.plot(point[which], point[0], "o", color=BLUE if mine else GREY, markersize=5)
        panels[0].set_ylabel("stored / raw; lower right is better")
        panels[0].set_ylim(0)
        for axis, which in ((panels[0], 2), (panels[1], 1)):
            _labels(axis, [(p[which], p[0], n, n.startswith(ours)) for n, p in points.items()])
        if ideal:
            panels[0].text(panels[0].get_xlim()[0] * 1.05, ideal, "ideal", fontsize=7, color=GREY, va="top")


def _labels(axis: Any, points: list[tuple[float, float, str, bool]]) -> None:
    """Name the points, each where its name covers the least of other names and points."""
    axis.figure.draw_without_rendering()
    scale = 72 / axis.figure.dpi
    at = [tuple(axis.transData.transform((x, y)) * scale) for x, y, _, _ in points]
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in at]
    for (x, y), (px, py, name, mine) in zip(at, points, strict=True):
        width, height = 3.9 * len(name), 8.0
        places = [(6, -4), (-6 - width, -4), (-width / 2, 6), (-width / 2, -14)]
        places += [(6, 5), (6, -13), (-6 - width, 5), (-6 - width, -13), (6, 14), (6, -22)]
        boxes = [(x + dx, y + dy, x + dx + width, y + dy + height) for dx, dy in places]
        right = axis.bbox.x1 * scale + 10
        cost = [
            sum(_overlap(box, other) for other in taken)
            + 1000 * (box[2] > right or box[0] < axis.bbox.x0 * scale)
            for box in boxes
        ]
        best = cost.index(min(cost))
        taken.append(boxes[best])
        dx, dy = places[best]
        axis.annotate(
            name, (px, py), (dx, dy), textcoords="offset points", fontsize=7, color=BLUE if mine else INK
        )


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """The area that two boxes share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)


def lines(
    path: Path, series: dict[str, tuple[Sequence[float], Sequence[float]]], x: str, y: str, limit: float = 0.0
) -> None:
    """Lines from zero, each named at its end."""
    with _figure(path, 6.5, 4.2) as figure:
        axis = figure.subplots()
        ends = []
        for color, (name, (xs, ys)) in zip(SHADES, series.items(), strict=False):
            axis.plot(xs, ys, "o-", color=color, markersize=3.5, linewidth=1.3)
            ends.append((ys[-1], name, color, xs[-1]))
        top = max([limit, *(max(ys) for _, ys in series.values())]) * 1.08
        axis.set_ylim(0, top)
        axis.set_xlim(0)
        at = -top
        for value, name, color, last in sorted(ends):
            at = max(value, at + top * 0.045)
            axis.text(last * 1.03, at, name, fontsize=8, color=color, va="center")
        if limit:
            axis.axhline(limit, color=INK, linewidth=0.8, linestyle="--")
            axis.text(0, limit, " target", fontsize=8, va="bottom")
        axis.set_xlabel(x)
        axis.set_ylabel(y)


def stacked(path: Path, bars: dict[str, dict[str, float]], x: str) -> None:
    """Horizontal bars of stages."""
    stages = list(dict.fromkeys(stage for bar in bars.values() for stage in bar))
    with _figure(path, 8, 0.9 + 0.55 * len(bars)) as figure:
        axis = figure.subplots()
        names = list(bars)[::-1]
        left = [0.0] * len(names)
        for i, stage in enumerate(stages):
            widths = [bars[name].get(stage, 0.0) for name in names]
            axis.barh(names, widths, left=left, label=stage, color=SHADES[i % len(SHADES)], height=0.6)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        axis.set_xlabel(x)
        axis.grid(axis="y", visible=False)
        axis.legend(fontsize=7, frameon=False, ncols=1, loc="center left", bbox_to_anchor=(1, 0.5))


def pairs(path: Path, rows: dict[str, tuple[float, float]], small: str, large: str) -> None:
    """For each command its time on two repositories, on a logarithmic axis."""
    with _figure(path, 7.5, 0.9 + 0.32 * len(rows)) as figure:
        axis = figure.subplots()
        names = list(rows)[::-1]
        for y, name in enumerate(names):
            a, b = rows[name]
            axis.plot([a, b], [y, y], color=GREY, linewidth=1.2, zorder=1)
        for which, label, color in ((0, small, GREY), (1, large, BLUE)):
            axis.plot([rows[n][which] for n in names], range(len(names)), "o", color=color, label=label)
        axis.set_yticks(range(len(names)), names)
        axis.set_xscale("log")
        axis.set_xlabel("seconds")
        axis.legend(fontsize=8, frameon=False)
