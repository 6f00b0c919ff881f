from __future__ import annotations

import math
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.evaluation.barrier import Connectivity, barrier_height, interpolate_states, measure_connectivity
from deltavcs.evaluation.curve import plot_svg, plot_text
from deltavcs.evaluation.evaluator import evaluate
from deltavcs.evaluation.swap import ModelHolder
from deltavcs.tasks.template import Example


def test_barrier_of_a_known_curve() -> None:
    found = measure_connectivity(lambda a: 1 + a + 4 * a * (1 - a), lambda alpha: alpha, points=5)
    assert found.alphas == (0, 0.25, 0.5, 0.75, 1)
    assert found.losses == (1, 2, 2.5, 2.5, 2)
    assert (found.barrier, found.barrier_alpha) == (1.0, 0.5)


def test_a_valley_has_no_barrier() -> None:
    assert barrier_height([0, 0.5, 1], [1.0, 0.2, 2.0]) == (0.0, 0)


def test_a_loss_that_is_not_finite_is_the_barrier() -> None:
    assert barrier_height([0, 0.5, 1], [1.0, math.inf, 2.0]) == (math.inf, 0.5)
    height, at = barrier_height([0, 0.5, 1], [1.0, 1.0, math.nan])
    assert math.isnan(height)
    assert at == 1


def test_points() -> None:
    seen: list[tuple[int, int]] = []
    measure_connectivity(lambda a: a, lambda alpha: alpha, points=2, progress=lambda *now: seen.append(now))
    assert seen == [(1, 2), (2, 2)]
    with pytest.raises(InvalidInputError):
        measure_connectivity(lambda a: a, lambda alpha: alpha, points=1)


def test_interpolation_is_exact_at_the_ends_and_rounds_once() -> None:
    a = {"w": torch.tensor([-0.0, 1.0, 3.0], dtype=torch.bfloat16), "n": torch.tensor([1, 2])}
    b = {"w": torch.tensor([5.0, math.inf, 1.0], dtype=torch.bfloat16), "n": torch.tensor([3, 4])}
    first = interpolate_states(a, b, 0.0)["w"]()
    assert math.copysign(1, first[0].item()) == -1
    assert torch.equal(first, a["w"])
    assert torch.equal(interpolate_states(a, b, 1.0)["w"](), b["w"])
    middle = interpolate_states(a, {n: (lambda t=t: t) for n, t in b.items()}, 0.3)
    exact = (0.7 * a["w"].double() + 0.3 * b["w"].double()).bfloat16()
    assert torch.equal(middle["w"](), exact)
    assert torch.equal(middle["n"](), a["n"])


def test_interpolation_of_what_does_not_match() -> None:
    with pytest.raises(InvalidInputError, match="only one of the two has v") as caught:
        interpolate_states({"w": torch.zeros(1)}, {"w": torch.zeros(1), "v": torch.zeros(1)}, 0.5)
    assert caught.value.kind is ErrorKind.INCOMPATIBLE
    with pytest.raises(InvalidInputError, match="shape"):
        interpolate_states({"w": torch.zeros(1)}, {"w": torch.zeros(2)}, 0.5)["w"]()


def test_segment_between_two_models(make_model: Any, tokenizer: Any, examples: list[Example]) -> None:
    a, b = make_model(seed=0), make_model(seed=1)
    ends = [evaluate(model, tokenizer, examples, split="x").loss for model in (a, b)]
    holder = ModelHolder(make_model(seed=2))

    def loss(state: Any) -> float:
        holder.swap(state, label="point")
        return evaluate(holder.model, tokenizer, examples, split="x").loss

    found = measure_connectivity(
        loss, lambda alpha: interpolate_states(a.state_dict(), b.state_dict(), alpha), points=3
    )
    assert [found.losses[0], found.losses[-1]] == ends


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
