from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest

from deltavcs.evaluation.barrier import Connectivity
from deltavcs.evaluation.curve import caption, plot_svg, plot_text

ALPHA = "\N{GREEK SMALL LETTER ALPHA}"
CURVE = Connectivity((0.0, 0.25, 0.5, 0.75, 1.0), (1.0, 2.0, 2.5, 2.5, 2.0), 1.0, 0.5)


def test_text_plot() -> None:
    lines = plot_text(CURVE, width=21, height=5).split("\n")
    assert len(lines) == 8
    assert lines[0] == "    2.5000 ┤          ●    ●"
    assert lines[4].startswith("    1.0000 ┤●")
    assert lines[7].strip() == "loss 1.0000 → 2.0000, barrier 1.0000 at \N{GREEK SMALL LETTER ALPHA} = 0.50"
    assert sum(line.count("●") for line in lines) == 5
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize(
    "losses", [(1.0, 1.0, 1.0), (1.0, math.inf, 2.0), (math.nan, math.nan, math.nan), (1e300, 0.0, -1e300)]
)
def test_plots_of_odd_curves(losses: tuple[float, ...]) -> None:
    curve = Connectivity((0.0, 0.5, 1.0), losses, math.nan, 0.5)
    assert plot_text(curve).count("\n") == 14
    ElementTree.fromstring(plot_svg(curve, title="x"))


def test_svg_is_well_formed_and_escapes_its_title() -> None:
    text = plot_svg(CURVE, title="<a> & b")
    root = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    assert root.find(f"{space}title").text == "<a> & b"  # type: ignore[union-attr]
    assert len(root.findall(f"{space}circle")) == 5
    for circle in root.findall(f"{space}circle"):
        assert 72 <= float(circle.attrib["cx"]) <= 616
        assert 48 <= float(circle.attrib["cy"]) <= 344
    assert plot_svg(CURVE, title="<a> & b") == text


@pytest.mark.parametrize(
    ("barrier", "said"),
    [
        (0.0, "no barrier"),
        (0.5, f"barrier 0.5000 at {ALPHA} = 0.50"),
        (math.nan, f"the loss is nan at {ALPHA} = 0.50"),
    ],
)
def test_the_line_below_a_plot(barrier: float, said: str) -> None:
    assert caption(Connectivity((0.0, 0.5, 1.0), (1.0, 1.5, 1.0), barrier, 0.5)).endswith(f", {said}")
