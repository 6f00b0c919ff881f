"""Random programs: numpy and a scalar stack machine agree to the bit."""

from __future__ import annotations

import math

import numpy as np
from derived_blocks import evaluate
from hypothesis import given, settings
from hypothesis import strategies as st

from deltavcs.errors import FormatError
from deltavcs.operators.limits import MAX_STACK
from deltavcs.tensors.cast import from_float64, to_float64

scalars = st.floats(allow_nan=False, allow_infinity=False, width=64)
N_INPUTS = 3


@st.composite
def programs(draw: st.DrawFn) -> list[object]:
    """Valid postfix programs over three inputs."""
    program: list[object] = []
    depth = 0
    for _ in range(draw(st.integers(1, 25))):
        choices = ["push"] if depth < MAX_STACK else []
        choices += ["scale"] if depth else []
        choices += ["add", "subtract"] if depth > 1 else []
        match draw(st.sampled_from(choices)):
            case "push":
                program.append(draw(st.integers(0, N_INPUTS - 1)))
                depth += 1
            case "scale":
                scalar = draw(scalars)
                program.append(["/" if scalar and draw(st.booleans()) else "*", scalar.hex()])
            case "add" | "subtract" as op:
                program.append("+" if op == "add" else "-")
                depth -= 1
    return program + ["+"] * (depth - 1)


def scalar_machine(program: list[object], inputs: list[float]) -> float:
    stack: list[float] = []
    for token in program:
        if isinstance(token, int):
            stack.append(inputs[token])
        elif token == "+":
            b = stack.pop()
            stack[-1] = stack[-1] + b
        elif token == "-":
            b = stack.pop()
            stack[-1] = stack[-1] - b
        else:
            scalar = float.fromhex(token[1])  # type: ignore[index]
            stack[-1] = stack[-1] * scalar if token[0] == "*" else stack[-1] / scalar  # type: ignore[index]
    (result,) = stack
    return result


def same(a: float, b: float) -> bool:
    return (math.isnan(a) and math.isnan(b)) or np.float64(a).tobytes() == np.float64(b).tobytes()


@settings(max_examples=80, deadline=None)
@given(programs(), st.lists(st.lists(scalars, min_size=N_INPUTS, max_size=N_INPUTS), min_size=1, max_size=5))
def test_programs_are_a_stack_machine(program: list[object], rows: list[list[float]]) -> None:
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    got = evaluate("linear", {"program": program}, columns, 0)
    for e, row in enumerate(rows):
        expected = scalar_machine(program, row)
        assert same(float(got[e]), expected)


@settings(max_examples=60, deadline=None)
@given(programs(), st.data())
def test_a_damaged_program_is_refused_or_runs(program: list[object], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(program) - 1))
    junk = data.draw(st.sampled_from([None, "+", "-", "*", -1, 3, 1.0, [], ["*"], ["/", "0x0.0p+0"], {}]))
    damaged = [*program[:at], junk, *program[at + 1 :]]
    try:
        result = evaluate("linear", {"program": damaged}, [np.ones(2)] * N_INPUTS, 0)
    except FormatError:
        return
    assert result.shape == (2,)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"]),
    st.lists(st.floats(width=64), min_size=1, max_size=40),
)
def test_rounding_is_idempotent_monotone_and_odd(dtype: str, values: list[float]) -> None:
    xs = np.sort(np.array(values))
    once = to_float64(from_float64(xs, dtype), dtype)
    twice = to_float64(from_float64(once, dtype), dtype)
    np.testing.assert_array_equal(once, twice)
    finite = once[~np.isnan(once)]
    assert np.all(finite[:-1] <= finite[1:])
    np.testing.assert_array_equal(to_float64(from_float64(-xs, dtype), dtype), -once)
