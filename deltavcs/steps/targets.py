"""From a revision or an expression to a view: what checkout, load, diff and evaluation start from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from deltavcs.advice import Advice
from deltavcs.checkpoint.quantised import Purpose, check_arithmetic
from deltavcs.checkpoint.view import View, cast, replace_files, view_of
from deltavcs.errors import DeltaVCSError, ErrorKind, InvalidInputError
from deltavcs.merging.expression import (
    Expression,
    is_expression,
    parse_expression,
)
from deltavcs.objects.model import Kind, Role
from deltavcs.oid import CommitId
from deltavcs.repo import Repository
from deltavcs.resources import SPAN_BYTES
from deltavcs.steps.naming import name_of
from deltavcs.steps.operands import open_operands
from deltavcs.steps.whole_files import check_tensors
from deltavcs.tensors.programs import Token

DTYPES = {
    "float64": "F64", "f64": "F64", "float32": "F32", "fp32": "F32", "f32": "F32",
    "float16": "F16", "fp16": "F16", "f16": "F16", "bfloat16": "BF16", "bf16": "BF16",
    "float8_e4m3fn": "F8_E4M3", "fp8": "F8_E4M3", "f8_e4m3": "F8_E4M3",
    "float8_e5m2": "F8_E5M2", "f8_e5m2": "F8_E5M2",
}  # fmt: skip
_DAMAGE = (
    ErrorKind.HASH_MISMATCH, ErrorKind.CORRUPT, ErrorKind.MISSING_OBJECT, ErrorKind.MISSING_BASE,
    ErrorKind.TRUNCATED, ErrorKind.DELTA_CYCLE,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """What a revision or an expression names.

    Attributes:
        commit: the commit, or None for an expression that is more than a revision.
        operands: the commits of an expression.
        recipe: the expression with full commit ids.
        dequantised: by revision, how what was dequantised is stored.
        notes: what folding an adapter made of its base, beside its weights; clauses.
    """

    text: str
    view: View
    commit: CommitId | None
    operands: tuple[CommitId, ...]
    recipe: str
    dequantised: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def find_target(repo: Repository, text: str, *, dequantize: bool = False, fold: bool = False) -> Target:
    """Resolve a revision or an expression.

    Args:
        dequantize: the weights that quantised checkpoints stand for, instead of what is stored.
        fold: an adapter in a sum is its base with the adapter folded in.

    Raises:
        NotFoundError: an unknown revision.
        InvalidInputError: a malformed expression, or checkpoints that do not fit together; `quantised` for
            arithmetic on stored numbers that are no weights.
    """
    if not is_expression(text):
        return _single(repo, text, repo.resolve(text.strip()), dequantize=dequantize)
    from deltavcs.merging.combination import combine
    from deltavcs.merging.counterparts import MergeInput

    expression = parse_expression(text)
    commits = tuple(repo.resolve(operand) for operand in expression.operands)
    if expression.program == (0,):
        return _single(repo, text, commits[0], dequantize=dequantize)
    for commit, operand in zip(commits, expression.operands, strict=True):
        if repo.commit(commit).kind is Kind.ADAPTER and not fold:
            raise InvalidInputError(
                f"{operand} is an adapter; expressions need whole checkpoints",
                kind=ErrorKind.INCOMPATIBLE,
                advice=Advice.FOLD_ADAPTER,
                facts={"revision": operand},
            )
    check_tensors(repo, commits)
    order = _order(expression)
    program = [order.index(t) if isinstance(t, int) else t for t in expression.program]
    names = [expression.operands[i] for i in order]
    operands = open_operands(repo, [commits[i] for i in order], names, dequantize=dequantize, fold=fold)
    models = [MergeInput(n, m) for n, m in zip(names, operands.manifests, strict=True)]
    combination = combine(operands.objects, program, models, is_transfer=_is_transfer(program))
    view = operands.stored_view(combination.view)
    return Target(text, view, None, commits, _recipe(expression, commits), operands.dequantised)


def _single(repo: Repository, text: str, commit: CommitId, *, dequantize: bool) -> Target:
    """What one revision names; dequantised it is no longer the commit's content."""
    view = view_of(repo.manifest(commit))
    if dequantize:
        operands = open_operands(repo, [commit], [text.strip()], dequantize=True)
        if operands.dequantised:
            view = operands.stored_view(view_of(operands.manifests[0]))
            return Target(text, view, None, (commit,), commit, operands.dequantised)
    return Target(text, view, commit, (commit,), commit)


def prepare_target(
    repo: Repository, text: str, *, dtype: str | None, merge_adapter: bool, dequantize: bool = False
) -> Target:
    """Resolve a revision or an expression, fold its adapter in and convert it, as asked.

    Args:
        dtype: as a user writes it; None leaves dtypes as they are.
        merge_adapter: the base with the adapter folded in, instead of the adapter.
        dequantize: the weights that quantised checkpoints stand for; of an adapter, its base's.

    Raises:
        InvalidInputError: `bad-argument` for an unknown dtype, or for folding what is no adapter;
            `quantised` for stored numbers that are no weights.
    """
    target = find_target(repo, text, dequantize=dequantize, fold=merge_adapter)
    if merge_adapter and not _sums_adapters(repo, target):
        target = _folded(repo, target, dequantize=dequantize)
    if dtype is not None:
        check_arithmetic(repo.objects, target.view, text.strip())
        from deltavcs.checkpoint.materialize import torch_name
        from deltavcs.checkpoint.patching import retyped_files

        check_tensors(repo, target.operands)
        view = cast(repo.objects, target.view, parse_dtype(dtype))
        files = retyped_files(repo.objects, view, torch_name(parse_dtype(dtype)))
        target = replace(target, view=replace_files(view, files))
    return target


def _sums_adapters(repo: Repository, target: Target) -> bool:
    return target.commit is None and any(repo.commit(c).kind is Kind.ADAPTER for c in target.operands)


def parse_dtype(text: str) -> str:
    """The safetensors name of a dtype that a user wrote.

    Raises:
        InvalidInputError: `bad-argument`.
    """
    found = DTYPES.get(text.removeprefix("torch.").lower())
    if found is None:
        raise InvalidInputError(
            f"unknown dtype {text!r}",
            kind=ErrorKind.BAD_ARGUMENT,
            advice=Advice.ONE_OF,
            facts={"choices": ", ".join(DTYPES)},
        )
    return found


def located(repo: Repository, target: Target, exc: DeltaVCSError) -> DeltaVCSError:
    """Name commit and tensor in an error about a blob."""
    if exc.kind not in _DAMAGE:
        return exc
    where = f"commit {target.commit[:12]}" if target.commit else target.text
    hurt = damaged_tensor(repo, target.view)
    return exc.within(f"{where}, {hurt}" if hurt else where)


def damaged_tensor(repo: Repository, view: View) -> str | None:
    """The first tensor or file of a view that cannot be read. Reads everything; only after an error."""
    blobs = repo.objects.blobs
    for file in view.files:
        if file.blob is not None and file.keys is None:
            blob = file.blob
            if _unreadable(lambda at, out, blob=blob: blobs.read_into(blob, at, out), file.size):  # type: ignore[misc]
                return file.path
    for key, content in view.tensors.items():
        if _unreadable(lambda at, out, c=content: c.read_into(blobs, at, out), content.size):  # type: ignore[misc]
            return key
    return None


def _unreadable(read: Callable[[int, memoryview], None], size: int) -> bool:
    try:
        for at in range(0, size, SPAN_BYTES):
            read(at, memoryview(bytearray(min(SPAN_BYTES, size - at))))
    except DeltaVCSError:
        return True
    return False


def _folded(repo: Repository, target: Target, *, dequantize: bool) -> Target:
    """The base of an adapter commit with the adapter folded in."""
    value = repo.commit(target.commit) if target.commit else None
    base = value.parent_as(Role.BASE) if value is not None else None
    if value is None or value.kind is not Kind.ADAPTER or base is None:
        raise InvalidInputError(
            f"{target.text} is not an adapter",
            kind=ErrorKind.BAD_ARGUMENT,
            advice=Advice.LEAVE_OUT_FOLDING,
        )
    from deltavcs.adapters.folding import fold

    named = f"{name_of(repo, base)}, the base of {target.text},"
    below = open_operands(repo, [base], [named], dequantize=dequantize, purpose=Purpose.FOLD)
    folded = fold(below.objects, repo.objects.get_manifest(value.manifest), below.manifests[0])
    return replace(
        target,
        view=below.stored_view(folded.view),
        commit=None,
        dequantised=below.dequantised,
        notes=folded.notes,
    )


def _order(expression: Expression) -> list[int]:
    """Operands with the leading one first: the first that is added rather than taken away."""
    lead = next((i for i, sign in enumerate(expression.signs) if sign > 0), 0)
    return [lead, *(i for i in range(len(expression.operands)) if i != lead)]


def _is_transfer(program: Sequence[Token]) -> bool:
    """True for `0 + (1 - 2)`, also with the difference multiplied or divided by a number."""
    shape = ["scale" if isinstance(t, tuple) else t for t in program]
    return shape in ([0, 1, 2, "-", "scale", "+"], [0, 1, 2, "-", "+"])


def _recipe(expression: Expression, commits: tuple[CommitId, ...]) -> str:
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
