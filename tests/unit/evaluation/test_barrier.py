from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scoring import evaluate

from deltavcs.errors import InvalidInputError
from deltavcs.evaluation.barrier import barrier_height, measure_connectivity
from deltavcs.evaluation.swap import swap
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


def test_segment_between_two_models(make_model: Any, tokenizer: Any, examples: list[Example]) -> None:
    a, b = make_model(seed=0), make_model(seed=1)
    ends = [evaluate(model, tokenizer, examples, split="x").loss for model in (a, b)]
    held = make_model(seed=2)

    def loss(state: Any) -> float:
        swap(held, state)
        return evaluate(held, tokenizer, examples, split="x").loss

    def mixed(alpha: float) -> dict[str, torch.Tensor]:
        states = a.state_dict(), b.state_dict()
        return {name: (1 - alpha) * states[0][name] + alpha * states[1][name] for name in states[0]}

    found = measure_connectivity(loss, mixed, points=3)
    assert [found.losses[0], found.losses[-1]] == ends
