"""Expressions over checkpoints: `llama3.1 + 0.8 * (chat - llama3.0)`. Parsing only.

Grammar, operators set off by spaces because names may hold `-` and `+`:

    sum    := ["-"] term (("+" | "-") term)*
    term   := NUMBER "*" factor | factor "*" NUMBER | factor "/" NUMBER | factor
    factor := REVISION | "(" sum ")"
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.tensors.programs import Token

MAX_EXPRESSION = 10_000
MAX_OPERANDS = 64
MAX_NESTING = 32
_TOKEN = re.compile(r"\s*(?:(?P<bracket>[()])|(?P<word>[^\s()]+))")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?\Z|\.[0-9]+(?:[eE][+-]?[0-9]+)?\Z")


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression.

    Attributes:
        operands: revisions, in order of first appearance.
        program: postfix: an operand's position, `+`, `-`, `("*", factor)` or `("/", divisor)`.
        signs: per operand, the sign of its total coefficient (-1, 0 or 1).
    """

    operands: tuple[str, ...]
    program: tuple[Token, ...]
    signs: tuple[int, ...]


def is_expression(text: str) -> bool:
    """True if `text` is more than a revision: it has white space or a bracket."""
    return bool(re.search(r"[\s()]", text.strip()))


def parse_expression(text: str) -> Expression:
    """Parse an expression.

    Raises:
        InvalidInputError: `bad-expression`, with the text and a pointer to what is wrong.
    """
    if len(text) > MAX_EXPRESSION:
        raise InvalidInputError("the expression is too long", kind=ErrorKind.BAD_EXPRESSION)
    return _Parser(text).run()


def transfer_program(scale: float) -> tuple[Token, ...]:
    """`0 + scale * (1 - 2)`: target base, fine-tune, source base."""
    return (0, 1, 2, "-", ("*", scale), "+")


@dataclass(frozen=True, slots=True)
class _Lexeme:
    text: str
    at: int


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._lexemes = [
            _Lexeme(m["bracket"] or m["word"], m.start("bracket") if m["bracket"] else m.start("word"))
            for m in _TOKEN.finditer(text)
            if m["bracket"] or m["word"]
        ]
        self._next = 0
        self._operands: dict[str, float] = {}
        self._program: list[Token] = []

    def run(self) -> Expression:
        self._sum(1.0, 0)
        if self._peek() is not None:
            raise self._wrong("expected '+', '-', '*' or the end here")
        signs = tuple((c > 0) - (c < 0) for c in self._operands.values())
        return Expression(tuple(self._operands), tuple(self._program), signs)

    def _sum(self, coefficient: float, depth: int) -> None:
        if depth > MAX_NESTING:
            raise self._wrong("brackets nested too deeply")
        negative = self._take("-")
        self._term(-coefficient if negative else coefficient, depth)
        if negative:
            self._program.append(("*", -1.0))
        while (op := self._peek()) in ("+", "-"):
            self._next += 1
            self._term(coefficient if op == "+" else -coefficient, depth)
            self._program.append(str(op))

    def _term(self, coefficient: float, depth: int) -> None:
        word = self._peek()
        if word is not None and _NUMBER.match(word) and self._peek(1) == "*":
            factor = self._number()
            self._next += 1
            self._factor(coefficient * factor, depth)
            self._program.append(("*", factor))
        else:
            self._factor_then_scale(coefficient, depth)

    def _factor_then_scale(self, coefficient: float, depth: int) -> None:
        before = dict(self._operands)
        self._factor(coefficient, depth)
        op = self._peek()
        if op not in ("*", "/"):
            return
        self._next += 1
        number = self._number()
        if op == "/" and (number == 0 or not math.isfinite(1.0 / number)):
            self._next -= 1
            raise self._wrong("division by zero" if number == 0 else "this number is too small to divide by")
        factor = number if op == "*" else 1.0 / number  # only for the signs of the operands
        for name, value in self._operands.items():
            old = before.get(name, 0.0)
            self._operands[name] = old + (value - old) * factor
        self._program.append((op, number))

    def _factor(self, coefficient: float, depth: int) -> None:
        if self._take("("):
            self._sum(coefficient, depth + 1)
            if not self._take(")"):
                raise self._wrong("expected ')' here")
            return
        word = self._peek()
        if word is None or word in ("+", "-", "*", "/", ")"):
            raise self._wrong("expected a revision here")
        if _NUMBER.match(word) and self._peek(1) not in (None, "+", "-", ")", "*", "/"):
            raise self._wrong("expected '*' after this number", ahead=1)
        self._next += 1
        self._operands[word] = self._operands.get(word, 0.0) + coefficient
        if len(self._operands) > MAX_OPERANDS:
            raise self._wrong(f"more than {MAX_OPERANDS} checkpoints")
        self._program.append(list(self._operands).index(word))

    def _number(self) -> float:
        word = self._peek()
        if word is None or not _NUMBER.match(word):
            raise self._wrong("expected a number here")
        value = float(word)
        if not math.isfinite(value):
            raise self._wrong("this number is too large")
        self._next += 1
        return value

    def _peek(self, ahead: int = 0) -> str | None:
        at = self._next + ahead
        return self._lexemes[at].text if at < len(self._lexemes) else None

    def _take(self, text: str) -> bool:
        if self._peek() != text:
            return False
        self._next += 1
        return True

    def _wrong(self, why: str, ahead: int = 0) -> InvalidInputError:
        at = self._next + ahead
        column = self._lexemes[at].at if at < len(self._lexemes) else len(self._text)
        return InvalidInputError(
            f"{why}:\n  {self._text}\n  {' ' * column}^",
            kind=ErrorKind.BAD_EXPRESSION,
        )
