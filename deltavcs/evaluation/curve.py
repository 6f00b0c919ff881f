"""Loss curves as text and as SVG, without a plotting library. Pure: same numbers, same characters."""

from __future__ import annotations

import math
from xml.sax.saxutils import escape

from deltavcs.evaluation.barrier import Connectivity

_MARK, _LINE = "●", "·"
_ALPHA = "\N{GREEK SMALL LETTER ALPHA}"
_SVG_WIDTH, _SVG_HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 24, 48, 56
_TICKS = 5
_ASCII = str.maketrans({"●": "*", "·": ".", "┤": "|", "└": "+", "─": "-", "→": "->", _ALPHA: "a"})


def plot_text(curve: Connectivity, *, width: int = 60, height: int = 12, ascii_only: bool = False) -> str:
    """Draw the curve with characters; lines end in no white space, the text in no line break.

    Args:
        curve: what to draw. Losses that are not finite are left out.
        width: columns of the plotting area, at least 10.
        height: rows of the plotting area, at least 3.
        ascii_only: for a terminal that knows no better.
    """
    width, height = max(10, width), max(3, height)
    low, high = _bounds(curve)
    grid = [[" "] * width for _ in range(height)]

    def place(alpha: float, loss: float, mark: str) -> None:
        column = round(alpha * (width - 1))
        row = round((high - loss) / (high - low) * (height - 1))
        grid[min(max(row, 0), height - 1)][column] = mark

    first, last = curve.losses[0], curve.losses[-1]
    if math.isfinite(first) and math.isfinite(last):
        for column in range(width):
            alpha = column / (width - 1)
            place(alpha, (1 - alpha) * first + alpha * last, _LINE)
    for alpha, loss in zip(curve.alphas, curve.losses, strict=True):
        if math.isfinite(loss):
            place(alpha, loss, _MARK)
    lines = []
    for row, cells in enumerate(grid):
        value = high - (high - low) * row / (height - 1)
        label = f"{value:10.4f}" if row in (0, height // 2, height - 1) else " " * 10
        lines.append(f"{label} ┤{''.join(cells)}".rstrip())
    lines.append(" " * 11 + "└" + "─" * width)
    lines.append(" " * 12 + f"{_ALPHA} = 0" + f"{_ALPHA} = 1".rjust(width - 5))
    lines.append(" " * 12 + caption(curve))
    text = "\n".join(lines)
    return text.translate(_ASCII) if ascii_only else text


def plot_svg(curve: Connectivity, *, title: str) -> str:
    """Draw the curve as a stand-alone SVG document.

    Args:
        curve: what to draw. Losses that are not finite are left out.
        title: plain text; escaped here.
    """
    low, high = _bounds(curve)
    inner_w, inner_h = _SVG_WIDTH - _LEFT - _RIGHT, _SVG_HEIGHT - _TOP - _BOTTOM

    def x(alpha: float) -> float:
        return _LEFT + alpha * inner_w

    def y(loss: float) -> float:
        return _TOP + (high - loss) / (high - low) * inner_h

    points = [
        (x(a), y(loss)) for a, loss in zip(curve.alphas, curve.losses, strict=True) if math.isfinite(loss)
    ]
    parts = _svg_frame(title, curve)
    for i in range(_TICKS):
        share = i / (_TICKS - 1)
        loss = low + share * (high - low)
        parts += _svg_tick(x(share), y(loss), f"{share:g}", f"{loss:.4g}")
    first, last = curve.losses[0], curve.losses[-1]
    if math.isfinite(first) and math.isfinite(last):
        parts.append(
            f'<line x1="{x(0):.1f}" y1="{y(first):.1f}" x2="{x(1):.1f}" y2="{y(last):.1f}"'
            ' stroke="#999" stroke-dasharray="4 4"/>'
        )
    path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
    parts.append(f'<polyline points="{path}" fill="none" stroke="#1f6feb" stroke-width="2"/>')
    parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" fill="#1f6feb"/>' for px, py in points]
    return "\n".join([*parts, "</svg>"]) + "\n"


def caption(curve: Connectivity) -> str:
    """One line: both ends and the barrier."""
    at = f"at {_ALPHA} = {curve.barrier_alpha:.2f}"
    if not math.isfinite(curve.barrier):
        barrier = f"the loss is {curve.barrier} {at}"
    else:
        barrier = f"barrier {curve.barrier:.4f} {at}" if curve.barrier else "no barrier"
    return f"loss {curve.losses[0]:.4f} → {curve.losses[-1]:.4f}, {barrier}"


def _bounds(curve: Connectivity) -> tuple[float, float]:
    finite = [loss for loss in curve.losses if math.isfinite(loss)] or [0.0]
    low, high = min(finite), max(finite)
    if high - low < 1e-9:
        return low - 0.5, high + 0.5
    return low, high


def _svg_frame(title: str, curve: Connectivity) -> list[str]:
    middle = _LEFT + (_SVG_WIDTH - _LEFT - _RIGHT) / 2
    bottom = _SVG_HEIGHT - _BOTTOM
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_SVG_WIDTH}" height="{_SVG_HEIGHT}"'
        f' viewBox="0 0 {_SVG_WIDTH} {_SVG_HEIGHT}" font-family="sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{middle:.1f}" y="20" text-anchor="middle" font-size="14">{escape(title)}</text>',
        f'<text x="{middle:.1f}" y="37" text-anchor="middle" fill="#555">{escape(caption(curve))}</text>',
        f'<path d="M{_LEFT},{_TOP} V{bottom} H{_SVG_WIDTH - _RIGHT}" fill="none" stroke="black"/>',
        f'<text x="{middle:.1f}" y="{_SVG_HEIGHT - 16}" text-anchor="middle">{_ALPHA}</text>',
        f'<text x="16" y="{_TOP - 8}">loss</text>',
    ]


def _svg_tick(x: float, y: float, x_label: str, y_label: str) -> list[str]:
    bottom = _SVG_HEIGHT - _BOTTOM
    return [
        f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_SVG_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#eee"/>',
        f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{y_label}</text>',
        f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{x_label}</text>',
    ]
