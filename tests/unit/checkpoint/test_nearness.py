"""Distances from a few ranges."""

from __future__ import annotations

import numpy as np
import pytest

from deltavcs.checkpoint.nearness import Readable, distance


def tensor(values, dtype="F32"):
    values = np.asarray(values)
    raw = values.astype(
        {"F32": "<f4", "F16": "<f2", "F64": "<f8", "I64": "<i8", "F8_E4M3": "u1"}[dtype]
    ).tobytes()

    def read(start, out):
        out[:] = raw[start : start + len(out)]

    return Readable(dtype, values.shape, read)


def test_the_distance_of_small_tensors_is_exact():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(40, 30)), rng.normal(size=(40, 30))
    found = distance({"x": tensor(a, "F64")}, {"y": tensor(b, "F64")}, {"x": "y"})
    assert found == pytest.approx(np.linalg.norm(a - b) / np.linalg.norm(b), rel=1e-12)


@pytest.mark.parametrize(("ours", "theirs"), [("F16", "F32"), ("F32", "F64")])
def test_dtypes_may_differ(ours, theirs):
    values = np.random.default_rng(0).normal(size=(64, 8))
    assert distance({"x": tensor(values, ours)}, {"x": tensor(values, theirs)}, {"x": "x"}) < 1e-3


def test_values_of_eight_bits_compare_with_their_like_only():
    bits = np.full((8, 8), 0x30)
    fp8, whole = {"x": tensor(bits, "F8_E4M3")}, {"x": tensor(np.ones((8, 8)))}
    assert distance(fp8, whole, {"x": "x"}) is None
    assert distance(fp8, fp8, {"x": "x"}) == 0.0


def test_integers_are_not_compared():
    counts = {"x": tensor(np.arange(8), "I64")}
    assert distance(counts, counts, {"x": "x"}) is None


def test_zeros():
    nothing = {"x": tensor(np.zeros(8))}
    assert distance(nothing, nothing, {"x": "x"}) == 0.0
    assert distance({"x": tensor(np.ones(8))}, nothing, {"x": "x"}) == float("inf")


def test_a_little_of_every_tensor_finds_what_the_largest_do_not():
    base = {f"big{i}": tensor(np.ones(64)) for i in range(40)} | {"small": tensor(np.ones(4))}
    tuned = {**base, "small": tensor(np.full(4, 2.0))}
    names = {k: k for k in base}
    assert distance(tuned, base, names) == 0.0
    assert distance(tuned, base, names, every=True) == pytest.approx(2 / np.sqrt(40 * 64 + 4))


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_is_left_out_of_a_distance(odd):
    """Not a number would be the nearest of none, and no further than all."""
    base, tuned = np.ones((2, 8)), np.full((2, 8), 2.0)
    base[0, 0] = odd
    assert distance({"x": tensor(tuned, "F32")}, {"x": tensor(base, "F32")}, {"x": "x"}) == 1.0
    assert distance({"x": tensor(base, "F32")}, {"x": tensor(tuned, "F32")}, {"x": "x"}) == 0.5
