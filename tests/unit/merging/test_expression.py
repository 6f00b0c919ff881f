"""Expressions: what they mean, and where the pointer stands when they mean nothing."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.expression import is_expression, parse_expression, transfer_program


def value(text, numbers):
    """The value of an expression over exact numbers, by running its program."""
    expression = parse_expression(text)
    stack = []
    for token in expression.program:
        if isinstance(token, int):
            stack.append(numbers[expression.operands[token]])
        elif isinstance(token, tuple):
            factor = Fraction(token[1])
            stack.append(stack.pop() * factor if token[0] == "*" else stack.pop() / factor)
        else:
            b, a = stack.pop(), stack.pop()
            stack.append(a + b if token == "+" else a - b)
    (result,) = stack
    return result


NUMBERS = {"a": Fraction(3), "b": Fraction(5), "c": Fraction(11), "v1+chat": Fraction(7), "1.5": Fraction(2)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + b", 8),
        ("a - b - c", -13),
        ("a - (b - c)", 9),
        ("a + 2 * (b - c)", -9),
        ("-1 * a + b", None),
        ("0.5 * a", Fraction(3, 2)),
        ("a * 0.5 + b", Fraction(13, 2)),
        ("(a + b) / 2", 4),
        ("((a))", 3),
        ("(a+b)", None),
        ("v1+chat - a", 4),
        ("- a + b", 2),
        ("- (a - b)", 2),
        ("2 * (3 * (a + b))", 48),
        ("a+b", None),
        ("1.5 + a", 5),
        ("1e1 * a", 30),
        (".5 * a", Fraction(3, 2)),
        ("a + (b - a)", 5),
        ("2. * a", 6),
        ("  a   +\tb\n", 8),
    ],
)
def test_meaning(text, expected):
    if expected is None:
        operands = parse_expression(text).operands if text != "-1 * a + b" else ()
        assert text == "-1 * a + b" or operands == (text.strip("()"),)  # one name that holds a plus
        if text == "-1 * a + b":
            with pytest.raises(InvalidInputError):
                parse_expression(text)
    else:
        assert value(text, NUMBERS) == expected


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("a +", 3),
        ("a + + b", 4),
        ("(a + b", 6),
        ("a + b)", 5),
        ("a b", 2),
        ("2 a", 2),
        ("2 * ", 4),
        ("a * b", 4),
        ("a / 0", 4),
        ("* a", 0),
        ("", 0),
        ("()", 1),
        ("a + (b - )", 9),
        ("1e999 * a", 0),
        ("a / x", 4),
        ("a * 0x1", 4),
    ],
)
def test_the_pointer_stands_where_it_is_wrong(text, column):
    with pytest.raises(InvalidInputError) as caught:
        parse_expression(text)
    assert caught.value.kind is ErrorKind.BAD_EXPRESSION and caught.value.advice is None
    _, shown, pointer = caught.value.message.split("\n")
    assert shown == f"  {text}"
    assert pointer.index("^") - 2 == column


@pytest.mark.parametrize(
    "text", ["(" * 5000 + "a", "a + " * 3000 + "a", " + ".join(f"m{i}" for i in range(65))]
)
def test_limits(text):
    with pytest.raises(InvalidInputError):
        parse_expression(text)


@given(st.text(alphabet="ab()+-*/ 0.1e\n", max_size=30))
def test_any_text_parses_or_is_refused(text):
    try:
        expression = parse_expression(text)
    except InvalidInputError as exc:
        assert exc.kind is ErrorKind.BAD_EXPRESSION
    else:
        assert expression.operands and len(expression.signs) == len(expression.operands)


@st.composite
def sums(draw, depth=0):
    """A random expression and the value Python gives it."""
    parts, total = [], Fraction(0)
    for i in range(draw(st.integers(1, 3))):
        if depth < 2 and draw(st.booleans()):
            text, v = draw(sums(depth=depth + 1))
            text = f"({text})"
        else:
            text = draw(st.sampled_from(["a", "b", "c"]))
            v = NUMBERS[text]
        k = draw(st.sampled_from([None, "2", "0.5", "4"]))
        if k is not None:
            text, v = f"{k} * {text}", v * Fraction(k)
        sign = draw(st.sampled_from("+-")) if i else "+"
        parts.append(text if not i else f" {sign} {text}")
        total += v if sign == "+" else -v
    return "".join(parts), total


@given(sums())
def test_programs_compute_what_the_text_says(case):
    text, expected = case
    assert value(text, NUMBERS) == expected


def test_signs_are_those_of_the_whole_coefficient():
    assert parse_expression("a - 2 * (b - c)").signs == (1, -1, 1)
    assert parse_expression("a - a").signs == (0,)


def test_a_transfer_is_recognised_as_its_program():
    assert parse_expression("t + 0.8 * (x - s)").program == transfer_program(0.8)
    assert not is_expression("v1+chat") and not is_expression(" run~2 ") and is_expression("a + b")


@pytest.mark.parametrize("text", ["a / 1e-310", "a + b / 5e-324"])
def test_a_divisor_whose_inverse_overflows_is_an_error_of_the_expression(text):
    with pytest.raises(InvalidInputError, match="too small") as found:
        parse_expression(text)
    assert found.value.kind is ErrorKind.BAD_EXPRESSION
