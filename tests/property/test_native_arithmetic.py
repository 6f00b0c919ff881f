"""Whatever the bytes and the program, every level of the kernels gives the bits of numpy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltavcs.operators.evaluate import evaluate_stored
from deltavcs.operators.limits import MAX_STACK
from deltavcs.operators.parse import parse
from deltavcs.tensors import tensor_kernels as native
from deltavcs.tensors.cast import from_float64, to_float64
from deltavcs.tensors.sums import difference, pair_sums, triple_sums

SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E5M2": 1, "F8_E4M3": 1}
dtypes = st.sampled_from(sorted(SIZES))
scalars = st.floats(allow_nan=False, allow_infinity=False, width=64)


@pytest.fixture(autouse=True)
def best_level() -> Iterator[None]:
    yield
    native.set_level(native.levels()[-1])


def same(a: tuple[float, ...], b: tuple[float, ...]) -> None:
    x, y = np.array(a, np.float64), np.array(b, np.float64)
    assert np.array_equal(np.isnan(x), np.isnan(y))
    assert np.array_equal(x.view(np.uint64)[~np.isnan(x)], y.view(np.uint64)[~np.isnan(y)])


@st.composite
def programs(draw: st.DrawFn, n_inputs: int) -> list[object]:
    program: list[object] = []
    depth = 0
    for _ in range(draw(st.integers(1, 20))):
        moves = (["push"] if depth < MAX_STACK else []) + (["scale"] if depth else [])
        move = draw(st.sampled_from(moves + (["+", "-"] if depth > 1 else [])))
        if move == "push":
            program.append(draw(st.integers(0, n_inputs - 1)))
        elif move == "scale":
            scalar = draw(scalars)
            program.append(["/" if scalar and draw(st.booleans()) else "*", scalar.hex()])
        else:
            program.append(move)
        depth += {"push": 1, "scale": 0}.get(move, -1)
    return program + ["+"] * (depth - 1)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_programs(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(dtypes, min_size=1, max_size=4))
    n = data.draw(st.integers(0, 600))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    inputs = [
        (kind, rng.integers(0, 256, data.draw(st.integers(0, n)) * SIZES[kind], dtype=np.uint8))
        for kind in kinds
    ]
    dtype = data.draw(dtypes)
    operation = parse("linear", {"program": data.draw(programs(len(kinds)))}, len(kinds))
    results = []
    for level in native.levels():
        native.set_level(level)
        out = bytearray(n * SIZES[dtype])
        evaluate_stored(operation, inputs, 0, dtype, memoryview(out))
        results.append(out)
    assert all(out == results[0] for out in results)


@settings(max_examples=150, deadline=None)
@given(dtypes, st.integers(0, 9000), st.floats(0, 1), st.booleans(), st.integers(0, 2**32))
def test_sums(dtype: str, n: int, kept: float, wild: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    if wild:
        parts = [rng.integers(0, 256, (n, SIZES[dtype]), dtype=np.uint8) for _ in range(3)]
    else:
        parts = [from_float64(rng.standard_normal(n), dtype).reshape(n, SIZES[dtype]) for _ in range(3)]
    parts[1] = np.where(rng.random(n)[:, None] < kept, parts[0], parts[1])
    a, b, c = (x.reshape(-1) for x in parts)
    results = []
    for level in native.levels():
        native.set_level(level)
        pair, triple = pair_sums(dtype, a, b), triple_sums((dtype, a), (dtype, b), (dtype, c))
        triples = (triple.base, triple.drift, triple.delta, triple.dot)
        results.append((*difference(dtype, a, b), pair.move, pair.aa, pair.bb, pair.ab, *triples))
    for result in results:
        same(result, results[0])


@settings(max_examples=100, deadline=None)
@given(dtypes, st.lists(st.floats(width=64), max_size=300))
def test_rounding_and_back(dtype: str, values: list[float]) -> None:
    rounded, widened = [], []
    for level in native.levels():
        native.set_level(level)
        rounded.append(from_float64(np.array(values, np.float64), dtype))
        widened.append(to_float64(rounded[-1], dtype))
    assert all(np.array_equal(x, rounded[0]) for x in rounded)
    for wide in widened:
        same(tuple(wide), tuple(widened[0]))
