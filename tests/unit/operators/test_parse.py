"""Parameters of the derived operators: what is refused, and that nothing else breaks."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from derived_blocks import CASES, evaluate
from hypothesis import given, settings
from hypothesis import strategies as st

from deltavcs.errors import ErrorKind, FormatError
from deltavcs.operators.parse import OPERATORS, hex_scalar, parse

H = float.hex


@pytest.mark.parametrize(("op", "params", "n_inputs"), CASES)
def test_params_survive_json(op: str, params: dict[str, object], n_inputs: int) -> None:
    assert parse(op, params, n_inputs) == parse(op, json.loads(json.dumps(params)), n_inputs)


ONE = H(1.0)
BAD_LINEAR = [
    {},
    {"program": []},
    {"program": "0"},
    {"program": [0, "+"]},
    {"program": [0, 0]},
    {"program": [0, "+", 1]},
    {"program": [["*", ONE], 0]},
    {"program": [3]},
    {"program": [-1]},
    {"program": [True]},
    {"program": [0.0]},
    {"program": [None]},
    {"program": [10**5000]},
    {"program": [0, "*"]},
    {"program": [0, ["*"]]},
    {"program": [0, ["*", 1.5]]},
    {"program": [0, ["*", "1.5"]]},
    {"program": [0, ["*", "0x1p0"]]},
    {"program": [0, ["*", "inf"]]},
    {"program": [0, ["*", "nan"]]},
    {"program": [0, ["*", "0x1.0p+99999"]]},
    {"program": [0, ["*", "0x" + "1" * 10_000]]},
    {"program": [0, ["/", H(0.0)]]},
    {"program": [0, ["/", H(-0.0)]]},
    {"program": [0, [["*"], ONE]]},
    {"program": [0] * 17 + ["+"] * 16},
    {"program": [0] + [["*", ONE]] * 5000},
    {"program": [0], "extra": 1},
]


@pytest.mark.parametrize("params", BAD_LINEAR, ids=range(len(BAD_LINEAR)))
def test_malformed_programs(params: dict[str, object]) -> None:
    with pytest.raises(FormatError) as caught:
        parse("linear", params, 3)
    assert caught.value.kind is ErrorKind.BAD_OBJECT
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("op", "change"),
    [
        ("ties", {"weights": [ONE]}),
        ("ties", {"weights": [ONE, H(-1.0)]}),
        ("ties", {"thresholds": [ONE, H(-1.0)]}),
        ("ties", {"lambda": 1.0}),
        ("dare", {"keep": [1, 2**32 + 1]}),
        ("dare", {"keep": [1, -1]}),
        ("dare", {"keep": [1, True]}),
        ("dare", {"keep": 5}),
        ("dare", {"seed": -1}),
        ("dare", {"seed": 2**53}),
        ("dare", {"seed": "0"}),
        ("dare", {"tensor": b"w"}),
        ("dare", {"tensor": "\ud800"}),
        ("dare", {"tensor": "é" * 4000}),
        ("dare", {"scales": [ONE]}),
        ("dare", {"weights": [ONE, ONE]}),
        ("dare_ties", {"weights": None}),
    ],
)
def test_malformed_parameters(op: str, change: dict[str, object]) -> None:
    params = next(p for name, p, _ in CASES if name == op)
    with pytest.raises(FormatError):
        parse(op, {**params, **change}, 3)
    with pytest.raises(FormatError):
        parse(op, {k: v for k, v in params.items() if k != "lambda"}, 3)
    with pytest.raises(FormatError):
        parse(op, params, 1)


def test_unknown_operators_and_counts_of_inputs() -> None:
    with pytest.raises(FormatError) as caught:
        parse("quantum", {}, 1)
    assert caught.value.kind is ErrorKind.UNSUPPORTED_FEATURE
    for op in (None, 10**5000, ["linear"]):
        with pytest.raises(FormatError):
            parse(op, {}, 1)  # type: ignore[arg-type]
    for n_inputs in (0, 257):
        with pytest.raises(FormatError):
            parse("linear", {"program": [0]}, n_inputs)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["+", "-", "*", "/", ONE, 0, 1]),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=20,
)
KEYS = ["program", "lambda", "thresholds", "weights", "keep", "scales", "seed", "tensor"]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(list(OPERATORS)),
    st.dictionaries(st.sampled_from(KEYS), json_values),
    st.integers(-1, 5),
)
def test_any_json_is_accepted_or_refused_cleanly(op: str, params: dict[str, object], n_inputs: int) -> None:
    try:
        parse(op, params, n_inputs)
    except FormatError:
        return
    assert evaluate(op, params, [np.ones(2)] * n_inputs, 0).shape == (2,)


def test_hex_scalar() -> None:
    assert hex_scalar(0.1) == "0x1.999999999999ap-4"
    for bad in (math.inf, -math.inf, math.nan):
        with pytest.raises(FormatError):
            hex_scalar(bad)
