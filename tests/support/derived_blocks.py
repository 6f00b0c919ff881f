"""Derived operators on arrays of float64, and one valid set of parameters of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from deltavcs.operators.evaluate import evaluate_stored
from deltavcs.operators.parse import Params, parse

H = float.hex


def splitmix64(seed: int) -> Iterator[int]:
    """Vigna's reference splitmix64.c, in Python integers."""
    state = seed
    while True:
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        yield z ^ (z >> 31)


def dare_params(count: int, **more: object) -> dict[str, object]:
    return {
        "keep": [round(0.3 * 2**32)] * count,
        "lambda": H(0.9),
        "scales": [H(1 / 0.3)] * count,
        "seed": 42,
        "tensor": "layer.weight",
        **more,
    }


CASES: list[tuple[str, dict[str, object], int]] = [
    ("linear", {"program": [0, 1, 2, "-", ["*", H(0.8)], "+", ["/", H(3.0)]]}, 3),
    ("ties", {"lambda": H(0.7), "thresholds": [H(0.05), H(0.1)], "weights": [H(1.0), H(0.3)]}, 3),
    ("dare", dare_params(2), 3),
    ("dare_ties", dare_params(2, weights=[H(1.0), H(0.3)]), 3),
]


def evaluate(op: str, params: Params, inputs: Sequence[np.ndarray], start: int) -> np.ndarray:
    """Evaluate one block as the store does; what the equations give at once has the same bits."""
    operation = parse(op, params, len(inputs))
    out = np.empty(inputs[0].size)
    stored = [("F64", np.ascontiguousarray(block).view(np.uint8)) for block in inputs]
    evaluate_stored(operation, stored, start, "F64", out.view(np.uint8).data)
    with np.errstate(all="ignore"):
        at_once = operation.run(inputs, start)
    numbers = ~np.isnan(out)
    assert np.array_equal(numbers, ~np.isnan(at_once))
    assert out[numbers].tobytes() == at_once[numbers].tobytes()
    return out
