"""The derived operators against equations written straight from the papers."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from derived_blocks import CASES, dare_params, evaluate, splitmix64

H = float.hex


def tensors(count: int, n: int = 501, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    base = rng.standard_normal(n)
    return [base] + [base + 0.1 * rng.standard_normal(n) for _ in range(count - 1)]


def test_transfer_is_its_equation_to_the_bit() -> None:
    t, tuned, s = tensors(3)
    got = evaluate("linear", {"program": [0, 1, 2, "-", ["*", H(0.8)], "+"]}, [t, tuned, s], 0)
    expected = [float(a) + 0.8 * (float(b) - float(c)) for a, b, c in zip(t, tuned, s, strict=True)]
    assert got.tolist() == expected


def test_division_and_order() -> None:
    x, y, z = tensors(3)
    program = [0, 1, "+", 2, "+", ["/", H(3.0)]]
    got = evaluate("linear", {"program": program}, [x, y, z], 0)
    assert got.tolist() == [
        ((a + b) + c) / 3.0 for a, b, c in zip(*map(np.ndarray.tolist, (x, y, z)), strict=True)
    ]


def naive_disjoint_mean(terms: list[float], weights: list[float]) -> float:
    total = 0.0
    for term in terms:
        total += term
    if total == 0 or math.isnan(total):
        return 0.0
    chosen = [(t, w) for t, w in zip(terms, weights, strict=True) if t * math.copysign(1, total) > 0]
    num = den = 0.0
    for t, w in chosen:
        num, den = num + t, den + w
    return num / den if den > 0 else 0.0


def test_ties_is_its_equations() -> None:
    inputs = tensors(4)
    thresholds, weights, scale = [0.05, 0.1, 0.02], [1.0, 0.5, 2.0], 0.7
    params = {
        "lambda": H(scale),
        "thresholds": [H(t) for t in thresholds],
        "weights": [H(w) for w in weights],
    }
    got = evaluate("ties", params, inputs, 0)
    for e in range(len(got)):
        base = float(inputs[0][e])
        deltas = [float(x[e]) - base for x in inputs[1:]]
        trimmed = [d if abs(d) >= t else 0.0 for d, t in zip(deltas, thresholds, strict=True)]
        terms = [d * w for d, w in zip(trimmed, weights, strict=True)]
        assert got[e] == base + naive_disjoint_mean(terms, weights) * scale


def test_ties_where_terms_cancel_keeps_the_base() -> None:
    params = {"lambda": H(1.0), "thresholds": [H(0.0)] * 2, "weights": [H(1.0)] * 2}
    inputs = [np.zeros(4), np.array([1.0, 1.0, -2.0, np.nan]), np.array([-1.0, 3.0, -4.0, 5.0])]
    assert evaluate("ties", params, inputs, 0).tolist() == [0.0, 2.0, -3.0, 5.0]


def naive_kept(seed: int, name: str, stream: int, keep: int, n: int) -> list[bool]:
    text = b"deltavcs dare v1\0" + seed.to_bytes(8, "little") + stream.to_bytes(4, "little") + name.encode()
    words = splitmix64(int.from_bytes(hashlib.sha256(text).digest()[:8], "little"))
    return [next(words) >> 32 < keep for _ in range(n)]


def test_dare_and_dare_ties_are_their_equations() -> None:
    inputs = tensors(3)
    n, weights = len(inputs[0]), [1.0, 3.0]
    masks = [naive_kept(42, "layer.weight", i, round(0.3 * 2**32), n) for i in range(2)]
    dare = evaluate("dare", dare_params(2), inputs, 0)
    ties = evaluate("dare_ties", dare_params(2, weights=[H(w) for w in weights]), inputs, 0)
    for e in range(n):
        base = float(inputs[0][e])
        kept = [
            (float(x[e]) - base) * (1 / 0.3) if mask[e] else 0.0
            for x, mask in zip(inputs[1:], masks, strict=True)
        ]
        assert dare[e] == base + (kept[0] + kept[1]) * 0.9
        terms = [k * w for k, w in zip(kept, weights, strict=True)]
        assert ties[e] == base + naive_disjoint_mean(terms, weights) * 0.9


@pytest.mark.parametrize(("op", "params", "n_inputs"), CASES)
def test_blocks_do_not_matter(op: str, params: dict[str, object], n_inputs: int) -> None:
    inputs = tensors(n_inputs, n=3001)
    whole = evaluate(op, params, inputs, 0)
    for size in (1, 7, 1000):
        for start in list(range(0, 3001, size))[:12]:
            part = evaluate(op, params, [x[start : start + size] for x in inputs], start)
            assert part.tobytes() == whole[start : start + size].tobytes()


@pytest.mark.parametrize(("op", "params", "n_inputs"), CASES)
def test_large_blocks_do_not_matter(op: str, params: dict[str, object], n_inputs: int) -> None:
    inputs = tensors(n_inputs, n=100_001)
    whole = evaluate(op, params, inputs, 0)
    for start, end in ((0, 40_000), (32_769, 100_001), (99_000, 99_001)):
        part = evaluate(op, params, [x[start:end] for x in inputs], start)
        assert part.tobytes() == whole[start:end].tobytes()
