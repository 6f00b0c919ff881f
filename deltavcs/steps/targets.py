"""From a revision or an expression to a view: what checkout, load, diff and rank start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deltavcs.checkpoint.view import View, view_of
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.expression import Expression, is_expression, parse_expression
from deltavcs.objects.model import Kind
from deltavcs.oid import CommitId
from deltavcs.repo import Repository
from deltavcs.tensors.programs import Token


@dataclass(frozen=True, slots=True)
class Target:
    """What a revision or an expression names.

    Attributes:
        commit: the commit, or None for an expression that is more than a revision.
        operands: the commits of an expression.
        recipe: the expression with full commit ids.
    """

    text: str
    view: View
    commit: CommitId | None
    operands: tuple[CommitId, ...]
    recipe: str


def target_of(repo: Repository, text: str) -> Target:
    """Resolve a revision or an expression.

    Raises:
        NotFoundError: an unknown revision.
        InvalidInputError: a malformed expression, or checkpoints that do not fit together.
    """
    if not is_expression(text):
        commit = repo.resolve(text.strip())
        return Target(text, view_of(repo.manifest(commit)), commit, (commit,), commit)
    from deltavcs.merging.combination import combine

    expression = parse_expression(text)
    commits = tuple(repo.resolve(operand) for operand in expression.operands)
    if expression.program == (0,):
        return Target(text, view_of(repo.manifest(commits[0])), commits[0], commits, commits[0])
    for commit, operand in zip(commits, expression.operands, strict=True):
        if repo.commit(commit).kind is Kind.ADAPTER:
            raise InvalidInputError(
                f"{operand} is an adapter; expressions need whole checkpoints",
                kind=ErrorKind.INCOMPATIBLE,
                hint=f"Fold it into its base first: dvx checkout {operand} --merge-adapter -o DIR.",
            )
    order = _order(expression)
    program = [order.index(t) if isinstance(t, int) else t for t in expression.program]
    combination = combine(
        repo.objects,
        program,
        [repo.manifest(commits[i]) for i in order],
        is_transfer=_is_transfer(program),
    )
    return Target(text, combination.view, None, commits, recipe_of(expression, commits))


def _order(expression: Expression) -> list[int]:
    """Operands with the leading one first: the first that is added rather than taken away."""
    lead = next((i for i, sign in enumerate(expression.signs) if sign > 0), 0)
    return [lead, *(i for i in range(len(expression.operands)) if i != lead)]


def _is_transfer(program: Sequence[Token]) -> bool:
    """True for `0 + (1 - 2)`, also with the difference multiplied or divided by a number."""
    shape = ["scale" if isinstance(t, tuple) else t for t in program]
    return shape in ([0, 1, 2, "-", "scale", "+"], [0, 1, 2, "-", "+"])


def recipe_of(expression: Expression, commits: tuple[CommitId, ...]) -> str:
    """The expression with full commit ids, fully bracketed, from its program."""
    stack: list[str] = []
    for token in expression.program:
        if isinstance(token, int):
            stack.append(commits[token])
        elif isinstance(token, tuple):
            value = stack.pop()
            stack.append(f"{token[1]!r} * {value}" if token[0] == "*" else f"({value} / {token[1]!r})")
        else:
            right, left = stack.pop(), stack.pop()
            stack.append(f"({left} {token} {right})")
    return stack.pop()
